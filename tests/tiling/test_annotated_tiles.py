"""Tiles of regions drawn in QuPath: which lie inside, and regions that cannot be understood."""

import json
from dataclasses import replace

import numpy as np
import pytest
from shapely import box, union_all
from shapely.geometry import Polygon, mapping

from tiling import (
    FormatError,
    GridConfig,
    TissueConfig,
    annotated_tiles,
    covered_share,
    open_slide,
    segment_tissue,
    tile_slide,
)

NAMES = ("normal", "tumour")


@pytest.fixture(scope="module")
def grid(phantom):
    with open_slide(phantom.path) as slide:
        return tile_slide(
            slide, segment_tissue(slide, TissueConfig()), GridConfig(tile_px=100), TissueConfig()
        )


def drawn(path, *regions, **properties):
    features = [
        {
            "type": "Feature",
            "geometry": mapping(shape),
            "properties": {"objectType": "annotation", "classification": {"name": name}, **properties},
        }
        for name, shape in regions
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_tiles_are_of_a_class_by_half_of_their_area(grid, tmp_path):
    draw = np.random.default_rng(0)
    regions = []
    for name in (*NAMES, "tumour"):
        middle, angles = draw.uniform(400, 1000, 2), np.linspace(0, 2 * np.pi, 40, endpoint=False)
        radii = draw.uniform(150, 400, 40)
        regions.append((name, Polygon(middle + radii[:, None] * np.c_[np.cos(angles), np.sin(angles)])))
    found = annotated_tiles(drawn(tmp_path / "one.geojson", *regions), grid, NAMES)
    side = grid.config.tile_px * grid.config.tile_mpp / grid.mpp
    for c, name in enumerate(NAMES):
        region = union_all([shape for own, shape in regions if own == name])
        share = (
            np.array([region.intersection(box(x, y, x + side, y + side)).area for x, y in grid.coords])
            / side**2
        )
        clear = abs(share - 0.5) > 0.03  # the rest is a matter of the raster
        assert np.array_equal(found[clear, c], share[clear] >= 0.5)
        assert 3 < found[:, c].sum() < len(grid) - 3


def test_the_share_of_a_tile_is_exact_where_the_mask_is_as_fine_as_the_slide(grid):
    width, height = grid.size_level0_px
    mask = np.random.default_rng(0).random((height, width)) < 0.3
    side = grid.config.tile_px
    x, y = grid.coords[5]
    side = round(side * grid.config.tile_mpp / grid.mpp)
    assert covered_share(grid, mask)[5] == pytest.approx(mask[y : y + side, x : x + side].mean())


def test_coordinates_count_from_where_qupath_shows_the_slide(grid, tmp_path):
    path = drawn(tmp_path / "one.geojson", ("tumour", box(300, 300, 900, 800)))
    moved = drawn(tmp_path / "moved.geojson", ("tumour", box(200, 250, 800, 750)))
    found = annotated_tiles(moved, grid, NAMES, shown_from_px=(100, 50))
    assert np.array_equal(found, annotated_tiles(path, grid, NAMES))


@pytest.mark.parametrize("name", ["Stroma", ""])
def test_a_region_of_an_unknown_class_is_refused_with_a_way_out(grid, tmp_path, name):
    path = drawn(tmp_path / "one.geojson", ("tumour", box(300, 300, 900, 800)), (name, box(0, 0, 50, 50)))
    with pytest.raises(
        FormatError, match=r"one.geojson: feature 2 is .*wanted one of normal, tumour"
    ) as caught:
        annotated_tiles(path, grid, NAMES)
    assert "QuPath" in caught.value.hint


def test_what_qupath_found_by_itself_is_no_annotation(grid, tmp_path):
    path = drawn(tmp_path / "one.geojson", ("Stroma", box(300, 300, 900, 800)), objectType="detection")
    with pytest.raises(FormatError, match="holds no polygon"):
        annotated_tiles(path, grid, NAMES)


def test_a_slide_without_tiles_has_none_annotated(grid, tmp_path):
    bare = replace(grid, coords=grid.coords[:0], tissue_fraction=grid.tissue_fraction[:0])
    path = drawn(tmp_path / "one.geojson", ("tumour", box(300, 300, 900, 800)))
    assert annotated_tiles(path, bare, NAMES).shape == (0, 2)
