import csv
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from shapely import Point
from shapely.geometry import shape

from tiling import ConfigError, paint
from tiling.geojson import geojson_fingerprint
from tiling.heatmap import Heatmap, side_level0_px
from tiling.hot_region_files import write_region_table, write_regions
from tiling.hot_regions import hot_regions
from tiling.smoothing import smooth


def disc_scores(grid, centre, radius):
    middles = grid.coords + side_level0_px(grid) / 2
    return (np.hypot(*(middles - centre).T) < radius).astype(np.float64)


def found(grid, *scores, threshold=0.5, tolerance_um=0.0, px_level0=None):
    heatmaps = {f"class {k}": paint(grid, s, px_level0=px_level0) for k, s in enumerate(scores, 1)}
    together = paint(grid, np.sum(scores, axis=0), px_level0=px_level0)
    return hot_regions(grid, heatmaps, together, threshold, tolerance_um=tolerance_um)


@pytest.mark.parametrize(("mpp", "overlap_px"), [(0.2628, 0), (0.4991, 25), (0.2628, 50)])
@pytest.mark.parametrize("tolerance_um", [0.0, 6.0, 12.5])
def test_the_edge_of_a_disc_is_within_a_tile_of_the_truth_everywhere(
    make_lattice, mpp, overlap_px, tolerance_um
):
    size_px = (100_003, 8011)
    radius = 2500.0
    centre = np.array([size_px[0] - 2700.0, size_px[1] - 2700.0])  # nearly in the far corner
    grid = make_lattice(size_px, mpp=mpp, overlap_px=overlap_px)
    side = side_level0_px(grid)
    grid = replace(grid, coords=grid.coords[grid.coords[:, 0] > 80_000])
    (region,) = found(grid, disc_scores(grid, centre, radius), tolerance_um=tolerance_um)
    truth = Point(centre).buffer(radius, quad_segs=64)
    assert region.shape.is_valid
    edge = region.shape.exterior.segmentize(20.0)
    distances = [abs(np.hypot(x - centre[0], y - centre[1]) - radius) for x, y in edge.coords]
    assert max(distances) < side
    assert region.shape.exterior.hausdorff_distance(truth.exterior) < side
    assert region.area_mm2 == pytest.approx(np.pi * (radius * mpp / 1000) ** 2, rel=0.06)


def test_regions_of_a_tile_in_the_very_corner_end_at_the_slides_border(make_lattice):
    grid = make_lattice((100_000, 80_000), mpp=0.25, tile_px=500, tile_mpp=0.25)
    scores = np.zeros(len(grid))
    scores[-1] = 1.0
    (region,) = found(grid, scores)
    assert region.shape.bounds == (99_500, 79_500, 100_000, 80_000)
    assert region.n_tiles == 1


def test_tiles_over_the_left_and_top_border_count_where_they_are(make_lattice):
    grid = make_lattice((1000, 1000), mpp=0.5, tile_px=100, tile_mpp=0.5)
    grid = replace(grid, coords=np.array([[-70, -70], [0, 900], [900, 0]]))
    regions = found(grid, np.array([1.0, 0.9, 0.8]))
    assert [r.n_tiles for r in regions] == [1, 1, 1]


@pytest.fixture
def ringed(make_lattice):
    """A ring of hot tiles with a hole, a lone tile, and a cold rest; 100 px tiles, none at the left edge."""
    grid = make_lattice((1500, 1000), mpp=0.5)
    row, column = np.divmod(np.arange(len(grid)), 15)
    scores = np.full(len(grid), 0.1)
    scores[(row >= 2) & (row < 7) & (column >= 2) & (column < 7)] = 0.6
    scores[(row == 4) & (column == 4)] = 0.2
    scores[(row == 3) & (column == 5)] = 0.8
    scores[(row == 8) & (column == 12)] = 0.9
    scores[column == 0] = np.nan
    return grid, scores


def test_holes_stay_holes_and_measurements_are_those_of_the_tiles(ringed):
    lone, ring = found(*ringed)
    assert (lone.n_tiles, ring.n_tiles) == (1, 24)
    assert lone.shape.bounds == (1200, 800, 1300, 900)
    assert len(ring.shape.interiors) == 1
    assert ring.shape.area == 24 * 100**2
    assert ring.area_mm2 == pytest.approx(24 * 0.05**2)
    assert ring.max_probability == pytest.approx(0.8)
    assert ring.mean_probability == pytest.approx((23 * 0.6 + 0.8) / 24)
    assert ring.class_probability == {"class 1": pytest.approx(ring.mean_probability)}


def test_the_threshold_is_of_all_classes_together_and_the_likeliest_names_the_region(make_lattice):
    grid = make_lattice((1000, 100), mpp=0.5)
    one = np.array([0.3, 0.3, 0.2, 0.2, 0, 0, 0, 0, 0, 0.4])
    two = np.array([0.2, 0.2, 0.3, 0.3, 0, 0, 0, 0, 0, 0.0])
    regions = found(grid, one, two)
    assert sorted((r.class_name, r.class_number, r.shape.bounds) for r in regions) == [
        ("class 1", 1, (0, 0, 200, 100)),
        ("class 2", 2, (200, 0, 400, 100)),
    ]
    assert [r.mean_probability for r in regions] == [pytest.approx(0.5)] * 2
    assert regions[0].class_probability["class 1"] == pytest.approx(0.3)


def test_overlapping_tiles_are_averaged(make_lattice):
    grid = make_lattice((300, 100), mpp=0.5, overlap_px=50)
    scores = np.array([1.0, 0.2, 0.2, 0.2, 0.2])
    assert [r.shape.bounds for r in found(grid, scores)] == [(0, 0, 100, 100)]
    assert [r.shape.bounds for r in found(grid, scores, threshold=0.7)] == [(0, 0, 50, 100)]


@pytest.mark.parametrize("tolerance_um", [0.0, 4.0, None])
def test_files_tell_the_area_that_their_polygons_have(tmp_path, make_lattice, tolerance_um):
    grid = make_lattice((9000, 7000), mpp=0.2628, overlap_px=20)
    rng = np.random.default_rng(0)
    regions = found(grid, rng.random(len(grid)), threshold=0.6, tolerance_um=tolerance_um)
    assert len(regions) > 20
    assert any(r.shape.geom_type == "Polygon" and r.shape.interiors for r in regions)
    hottest = [r.max_probability for r in regions]
    assert hottest == sorted(hottest, reverse=True)
    told = {"threshold": 0.6}
    write_regions(
        tmp_path / "r.geojson", grid, regions, fingerprint="f00", told=told, shown_from_px=(250, 120)
    )
    write_region_table(tmp_path / "r.csv", grid, regions, ["class 1"])
    assert geojson_fingerprint(tmp_path / "r.geojson") == "f00"
    collection = json.loads((tmp_path / "r.geojson").read_text())
    assert collection["threshold"] == 0.6
    with (tmp_path / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(collection["features"]) == len(regions)
    assert len({f["id"] for f in collection["features"]}) == len(regions)
    for number, (feature, row) in enumerate(zip(collection["features"], rows, strict=True), 1):
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        measured = feature["properties"]["measurements"]
        assert polygon.area * 0.2628**2 / 1e6 == pytest.approx(measured["area mm2"], rel=1e-9)
        assert float(row["area_mm2"]) == pytest.approx(measured["area mm2"], rel=1e-8)
        bounds = [float(row[c]) for c in ("left_px", "top_px", "right_px", "bottom_px")]
        np.testing.assert_allclose(np.add(polygon.bounds, [250, 120, 250, 120]), bounds, atol=0.01)
        np.testing.assert_allclose(feature["bbox"], polygon.bounds, atol=0.01)
        assert float(row["centroid_x_px"]) == pytest.approx(polygon.centroid.x + 250, abs=0.01)
        assert feature["properties"]["name"] == f"class 1 {row['region']}"
        assert int(row["region"]) == number


def test_nothing_hot_makes_empty_files(tmp_path, make_lattice):
    grid = make_lattice((1000, 800), mpp=0.5)
    regions = found(grid, np.full(len(grid), np.nan))
    assert regions == []
    write_regions(tmp_path / "r.geojson", grid, regions, fingerprint="f00")
    write_region_table(tmp_path / "r.csv", grid, regions, ["class 1"])
    assert json.loads((tmp_path / "r.geojson").read_text())["features"] == []
    (header,) = (tmp_path / "r.csv").read_text().splitlines()
    assert header.endswith(",mean_p(class 1)")


@pytest.mark.parametrize("tolerance_um", [-1.0, 12.6])
def test_a_tolerance_beyond_a_tile_is_refused(make_lattice, tolerance_um):
    grid = make_lattice((1000, 800), mpp=0.5)
    with pytest.raises(ConfigError, match="a quarter of a tile"):
        found(grid, np.ones(len(grid)), tolerance_um=tolerance_um)


class TestSmoothing:
    def test_is_over_what_is_scored_alone(self, ringed):
        grid, scores = ringed
        heatmap = paint(grid, np.where(np.isnan(scores), np.nan, 0.7), px_level0=25.0)
        smoothed = smooth(heatmap, 150.0)
        np.testing.assert_array_equal(np.isnan(smoothed.values), np.isnan(heatmap.values))
        np.testing.assert_allclose(smoothed.values[~np.isnan(smoothed.values)], 0.7, atol=1e-6)

    def test_has_its_deviation_in_level0_pixels(self, make_lattice):
        grid = make_lattice((4000, 4000), mpp=0.5)
        scores = np.zeros(len(grid))
        scores[20 * 40 + 20] = 1
        smoothed = smooth(paint(grid, scores, px_level0=25.0), 300.0)
        assert np.isnan(smoothed.values).sum() == 0
        x = (np.arange(160) + 0.5) * 25.0
        weight = smoothed.values.sum(axis=0, dtype=np.float64)
        mean = (weight * x).sum() / weight.sum()
        assert mean == pytest.approx(2050.0, abs=1.0)
        deviation = np.sqrt((weight * (x - mean) ** 2).sum() / weight.sum())
        assert deviation == pytest.approx(np.hypot(300.0, 100 / np.sqrt(12)), rel=0.01)
        assert weight.sum() == pytest.approx(16, rel=1e-3)

    def test_a_wide_one_is_that_of_a_finer_raster(self, make_lattice):
        """Which is made coarser on the way: what is told must not depend on the raster."""
        grid = make_lattice((12_300, 9100), mpp=0.5)
        x, y = grid.coords.T
        scores = np.where(x > 7000, np.nan, (x + y > 6000).astype(float))
        fine, coarse = (smooth(paint(grid, scores, px_level0=px), 790.0) for px in (12.5, 100.0))
        seen = fine.resampled(coarse.values.shape[::-1])
        np.testing.assert_array_equal(np.isnan(seen), np.isnan(coarse.values))
        np.testing.assert_allclose(seen, coarse.values, atol=0.01)
        assert np.nanstd(coarse.values) > 0.2

    def test_takes_no_longer_for_a_wide_one(self):
        heatmap = Heatmap(
            np.random.default_rng(0).random((2000, 3000), dtype=np.float32), 10, (30_000, 20_000)
        )
        start = time.process_time()
        values = smooth(heatmap, 10_000.0).values
        assert time.process_time() - start < 2
        assert values.std() < 0.01

    def test_of_nothing_changes_nothing(self, ringed):
        heatmap = paint(*ringed)
        assert smooth(heatmap, 0.0) is heatmap
