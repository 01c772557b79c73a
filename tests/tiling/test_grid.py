from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tiling import (
    ConfigError,
    GridConfig,
    ResolutionError,
    TissueConfig,
    TissueMask,
    grid_fingerprint,
    tile_slide,
)

EVERYWHERE = GridConfig(min_tissue=0)


def all_tissue(size_px):
    return TissueMask(np.ones((40, 50), bool), np.zeros((40, 50, 3), np.uint8), size_px)


def random_mask(size_px, shape, seed=0):
    mask = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2) > 0.02
    return TissueMask(mask, np.zeros((*shape, 3), np.uint8), size_px)


def slow_fraction(mask, x, y, side):
    """The definition: the area of mask pixels inside the square over the area of the square."""

    def shares(begin, n_px, size_px):
        edges = np.arange(n_px + 1) * size_px / n_px
        return np.clip(np.minimum(edges[1:], begin + side) - np.maximum(edges[:-1], begin), 0, None)

    height, width = mask.mask.shape
    across, down = shares(x, width, mask.size_level0_px[0]), shares(y, height, mask.size_level0_px[1])
    return float(down @ mask.mask @ across) / side**2


@pytest.mark.parametrize("mpp", [0.2628, 0.2501, 0.4567, 0.22735, 0.5])
@pytest.mark.parametrize("overlap_px", [0, 37])
def test_tiles_do_not_drift_on_the_widest_slide(fake_slide, mpp, overlap_px):
    size_px = (120_000, 1500)
    grid = tile_slide(
        fake_slide(size_px=size_px, mpp=mpp), all_tissue(size_px), replace(EVERYWHERE, overlap_px=overlap_px)
    )
    xs = np.unique(grid.coords[:, 0])
    exact_step = (224 - overlap_px) * 0.5 / mpp
    assert np.abs(xs - np.arange(len(xs)) * exact_step).max() <= 0.5
    assert xs[-1] + grid.tile_px_level0 <= size_px[0]
    assert len(xs) * exact_step + grid.tile_px_level0 > size_px[0] - 1  # no room for another one
    # an error of one part in a thousand, as rounding to a magnification makes, would end elsewhere
    assert abs(xs[-1] - (len(xs) - 1) * round(exact_step)) > 20 or exact_step == round(exact_step)


@pytest.mark.parametrize("seed", range(200))
def test_whole_tiles_lie_inside_the_slide_and_fill_it(fake_slide, seed):
    rng = np.random.default_rng(seed)
    tile_px, mpp = int(rng.integers(20, 300)), float(rng.uniform(0.2, 0.5))
    config = GridConfig(tile_px=tile_px, overlap_px=int(rng.integers(0, tile_px)) // 2, min_tissue=0)
    side, step = tile_px * 0.5 / mpp, (tile_px - config.overlap_px) * 0.5 / mpp
    # sizes at which the last tile just fits or just does not
    n = rng.integers(1, 6, 2)
    size_px = tuple(int(k * step + side) + int(rng.integers(-1, 2)) for k in n)
    grid = tile_slide(fake_slide(size_px=size_px, mpp=mpp), all_tissue(size_px), config)
    assert (grid.coords >= 0).all()
    assert (grid.coords + grid.tile_px_level0 <= size_px).all()
    for axis in (0, 1):
        found = np.unique(grid.coords[:, axis])
        assert found.tolist() == np.rint(np.arange(len(found)) * step).astype(int).tolist()
        assert round(len(found) * step) + round(side) > size_px[axis]
    assert len(grid) == np.prod([len(np.unique(grid.coords[:, axis])) for axis in (0, 1)])


@pytest.mark.parametrize("size_px", [(100, 1000), (1000, 100), (223, 223), (1, 1)])
def test_a_slide_smaller_than_a_tile_has_none(fake_slide, size_px):
    grid = tile_slide(fake_slide(size_px=size_px), all_tissue(size_px), EVERYWHERE)
    assert grid.coords.shape == (0, 2)
    assert grid.coords.dtype == np.int64
    assert grid.tissue_fraction.shape == (0,)


def test_a_slide_of_exactly_one_tile_has_it(fake_slide):
    grid = tile_slide(fake_slide(size_px=(224, 224)), all_tissue((224, 224)), EVERYWHERE)
    assert grid.coords.tolist() == [[0, 0]]
    assert grid.tissue_fraction.tolist() == [1.0]


def test_tiles_come_row_by_row(fake_slide):
    size_px = (1000, 700)
    grid = tile_slide(fake_slide(size_px=size_px), random_mask(size_px, (70, 100)), EVERYWHERE)
    assert grid.coords.tolist() == sorted(grid.coords.tolist(), key=lambda xy: (xy[1], xy[0]))
    assert len(np.unique(grid.coords, axis=0)) == len(grid) == 4 * 3


@pytest.mark.parametrize(
    ("tile_mpp", "level", "read_px"),
    [
        (0.25, 0, 224),  # as scanned
        (0.5, 0, 448),
        (0.99, 1, 222),  # level 1 is 1.0 µm/px: within a fiftieth of what is asked
        (0.95, 0, 851),
        (1.0, 1, 224),
        (2.0, 1, 448),
        (4.0, 2, 224),
        (10.0, 2, 560),
    ],
)
def test_the_coarsest_level_that_is_fine_enough_is_read(fake_slide, tile_mpp, level, read_px):
    size_px = (64_000, 48_000)
    slide = fake_slide(size_px=size_px, mpp=0.25, downsamples=(1, 4, 16))
    grid = tile_slide(slide, all_tissue(size_px), GridConfig(tile_mpp=tile_mpp))
    assert (grid.level, grid.read_px) == (level, read_px)
    assert grid.tile_px_level0 == round(224 * tile_mpp / 0.25)
    # what is read is what the tile spans
    assert grid.read_px * slide.downsamples[level] == pytest.approx(grid.tile_px_level0, rel=0.005)


def test_a_slide_scanned_too_coarse_is_refused_unless_enlarging_is_allowed(fake_slide):
    slide, mask = fake_slide(size_px=(1000, 800), mpp=1.0), all_tissue((1000, 800))
    with pytest.raises(ResolutionError) as caught:
        tile_slide(slide, mask, EVERYWHERE)
    told = str(caught.value)
    assert all(
        part in told for part in ("fake", "1 µm/px", "0.5 µm/px", "--tile-mpp 1", "--allow-upsampling")
    )
    grid = tile_slide(slide, mask, replace(EVERYWHERE, allow_upsampling=True))
    assert (grid.level, grid.read_px, grid.tile_px_level0) == (0, 112, 112)


def test_a_fiftieth_too_coarse_counts_as_fine_enough(fake_slide):
    mask = all_tissue((1000, 800))
    grid = tile_slide(fake_slide(size_px=(1000, 800), mpp=0.5095), mask, EVERYWHERE)
    assert (grid.level, grid.read_px) == (0, 220)
    with pytest.raises(ResolutionError, match="too coarse"):
        tile_slide(fake_slide(size_px=(1000, 800), mpp=0.515), mask, EVERYWHERE)


def test_a_slide_without_resolution_cannot_be_tiled(fake_slide):
    with pytest.raises(ResolutionError, match="states no resolution"):
        tile_slide(fake_slide(size_px=(900, 900), mpp=None), all_tissue((900, 900)))


@pytest.mark.parametrize(("mpp", "shape"), [(0.5, (70, 100)), (0.2628, (83, 61)), (0.31, (700, 1000))])
@pytest.mark.parametrize("overlap_px", [0, 20])
def test_tissue_fraction_is_exact(fake_slide, mpp, shape, overlap_px):
    size_px = (1000, 700)
    mask = random_mask(size_px, shape, seed=3)
    config = GridConfig(tile_px=50, overlap_px=overlap_px, min_tissue=0)
    grid = tile_slide(fake_slide(size_px=size_px, mpp=mpp), mask, config)
    side = 50 * 0.5 / mpp
    slow = [slow_fraction(mask, x, y, side) for x, y in grid.coords.tolist()]
    assert len(slow) > 60
    np.testing.assert_allclose(grid.tissue_fraction, slow, atol=2e-6)


def test_tissue_fraction_is_the_share_of_pixels_at_level0(fake_slide):
    mask = random_mask((600, 400), (400, 600), seed=1)
    grid = tile_slide(fake_slide(size_px=(600, 400)), mask, GridConfig(tile_px=50))
    counted = [mask.mask[y : y + 50, x : x + 50].mean() for x, y in grid.coords.tolist()]
    np.testing.assert_allclose(grid.tissue_fraction, counted, atol=1e-6)


@pytest.mark.parametrize("tile_mpp", [0.25, 0.2475, 0.99, 1 / 3])
def test_a_tile_of_nothing_but_tissue_has_all_that_can_be_asked_for(fake_slide, tile_mpp):
    mask = TissueMask(np.ones((600, 800), bool), np.zeros((600, 800, 3), np.uint8), (8000, 6000))
    slide = fake_slide(size_px=(8000, 6000), mpp=0.25)
    every, full = (
        tile_slide(
            slide, mask, GridConfig(tile_px=190, tile_mpp=tile_mpp, min_tissue=m, allow_upsampling=True)
        )
        for m in (0, 1)
    )
    assert len(full) == len(every) > 0


@pytest.mark.parametrize("min_tissue", [0, 0.25, 0.5, 1])
def test_tiles_with_enough_tissue_are_kept_and_no_other(fake_slide, min_tissue):
    size_px = (1000, 700)
    mask = TissueMask(np.zeros((70, 100), bool), np.zeros((70, 100, 3), np.uint8), size_px)
    mask.mask[10:45, 13:72] = True
    config = GridConfig(tile_px=100, min_tissue=min_tissue)
    grid = tile_slide(fake_slide(size_px=size_px), mask, config)
    expected = [
        [x, y]
        for y in range(0, 700, 100)
        for x in range(0, 1000, 100)
        if (share := slow_fraction(mask, x, y, 100)) >= min_tissue - 1e-9 and share > 0
    ]
    assert grid.coords.tolist() == expected
    assert len(expected) >= 15


@pytest.mark.parametrize("file_tile_px", [240, 256, 1000])
@pytest.mark.parametrize("max_tiles", [0, 60])
def test_the_file_is_read_forward(fake_slide, file_tile_px, max_tiles):
    """Tiles of the file that are left behind are never come back to."""
    size_px = (9000, 7000)
    config = GridConfig(overlap_px=30, max_tiles=max_tiles)
    grid = tile_slide(fake_slide(size_px=size_px, mpp=0.37), random_mask(size_px, (70, 90)), config)
    assert len(grid) > 50
    row = grid.coords[:, 1]
    assert (np.diff(row // file_tile_px) >= 0).all()
    assert (np.diff(grid.coords[:, 0])[np.diff(row) == 0] > 0).all()


def drawn(fake_slide, **options):
    size_px = (9000, 7000)
    mask = random_mask(size_px, (70, 90))
    return tile_slide(fake_slide(size_px=size_px), mask, GridConfig(**options))


@pytest.mark.parametrize("max_tiles", [1, 7, 100])
def test_so_many_tiles_are_drawn_and_stay_in_order(fake_slide, max_tiles):
    every, some = drawn(fake_slide), drawn(fake_slide, max_tiles=max_tiles)
    places = [tuple(c) for c in every.coords.tolist()]
    rows = [places.index(tuple(c)) for c in some.coords.tolist()]
    assert len(rows) == max_tiles < len(every)
    assert rows == sorted(set(rows))
    assert some.tissue_fraction.tolist() == every.tissue_fraction[rows].tolist()
    assert some.tissue_polygons == every.tissue_polygons


def test_where_there_are_fewer_all_are_kept(fake_slide):
    every = drawn(fake_slide)
    for n in (0, len(every), len(every) + 1):
        assert np.array_equal(drawn(fake_slide, max_tiles=n).coords, every.coords)


def test_the_same_seed_draws_the_same_and_fewer_are_among_more(fake_slide):
    few, again = (drawn(fake_slide, max_tiles=40, tile_seed=5) for _ in range(2))
    assert np.array_equal(few.coords, again.coords)
    more = {tuple(c) for c in drawn(fake_slide, max_tiles=90, tile_seed=5).coords.tolist()}
    assert {tuple(c) for c in few.coords.tolist()} < more
    assert not np.array_equal(few.coords, drawn(fake_slide, max_tiles=40, tile_seed=6).coords)


def test_each_tile_is_as_likely_as_another(fake_slide):
    every = drawn(fake_slide, tile_px=448)
    places = {tuple(c): k for k, c in enumerate(every.coords.tolist())}
    n, k, draws = len(every), len(every) // 3, 400
    counts = np.zeros(n)
    for seed in range(draws):
        some = drawn(fake_slide, tile_px=448, max_tiles=k, tile_seed=seed)
        counts[[places[tuple(c)] for c in some.coords.tolist()]] += 1
    spread = np.sqrt(draws * (k / n) * (1 - k / n))
    assert abs(counts - draws * k / n).max() < 4.5 * spread


def test_no_tissue_means_no_tiles(fake_slide):
    mask = TissueMask(np.zeros((70, 100), bool), np.zeros((70, 100, 3), np.uint8), (1000, 700))
    grid = tile_slide(fake_slide(size_px=(1000, 700)), mask, EVERYWHERE)
    assert len(grid) == 0
    assert grid.coords.shape == (0, 2)
    assert "0 tiles" in repr(grid)


def test_the_grid_says_where_it_comes_from(fake_slide):
    slide = fake_slide(size_px=(1000, 700), mpp=0.25)
    mask, tissue = random_mask((1000, 700), (70, 100)), TissueConfig(tissue_mpp=4)
    grid = tile_slide(slide, mask, GridConfig(tile_px=100), tissue)
    assert (grid.slide_id, grid.slide_path, grid.slide_fingerprint) == ("fake", "fake.svs", "fake")
    assert (grid.mpp, grid.mpp_source, grid.size_level0_px) == (0.25, "slide table", (1000, 700))
    assert grid.tissue_polygons == mask.polygons()
    assert grid.tissue_config == tissue


def test_fingerprint_is_known_before_the_grid_is_made(fake_slide):
    slide, mask = fake_slide(size_px=(1000, 700)), all_tissue((1000, 700))
    for config, tissue in [
        (GridConfig(), TissueConfig()),
        (GridConfig(tile_px=64), TissueConfig(tissue_mpp=4)),
    ]:
        grid = tile_slide(slide, mask, config, tissue)
        assert grid.fingerprint == grid_fingerprint(slide, config, tissue)


def test_fingerprint_changes_with_whatever_changes_the_grid(fake_slide):
    told = [grid_fingerprint(fake_slide(size_px=(9, 9), mpp=0.5), GridConfig(), TissueConfig())]
    told.append(grid_fingerprint(fake_slide(size_px=(9, 9), mpp=0.25), GridConfig(), TissueConfig()))
    other = fake_slide(size_px=(9, 9), mpp=0.5)
    other.fingerprint = "another file"
    told.append(grid_fingerprint(other, GridConfig(), TissueConfig()))
    slide = fake_slide(size_px=(9, 9), mpp=0.5)
    for change in [
        {"tile_px": 256},
        {"tile_mpp": 0.6},
        {"overlap_px": 2},
        {"min_tissue": 0.3},
        {"allow_upsampling": True},
        {"max_tiles": 10},
        {"max_tiles": 10, "tile_seed": 1},
    ]:
        told.append(grid_fingerprint(slide, GridConfig(**change), TissueConfig()))
    for change in [{"tissue_mpp": 4}, {"min_area_mm2": 1}, {"min_hole_mm2": 1}]:
        told.append(grid_fingerprint(slide, GridConfig(), TissueConfig(**change)))
    assert len(set(told)) == len(told)
    assert grid_fingerprint(slide, GridConfig(tile_seed=5), TissueConfig()) == told[0]  # nothing is drawn


@pytest.mark.parametrize(
    "wrong",
    [
        {"tile_px": 0},
        {"tile_mpp": 0.01},
        {"tile_mpp": 51},
        {"tile_mpp": float("nan")},
        {"overlap_px": -1},
        {"overlap_px": 224},
        {"min_tissue": -0.1},
        {"min_tissue": 1.1},
        {"max_tiles": -1},
        {"tile_seed": -1},
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GridConfig(**wrong)
