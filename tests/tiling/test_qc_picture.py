from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tiling import (
    GridConfig,
    GridSummary,
    TissueMask,
    TissueQuality,
    load_summary,
    picture_fingerprint,
    qc_fingerprint,
    qc_picture,
    save_grid,
    small_picture,
    tile_slide,
    write_qc_picture,
)

GREY, BLUE, BLACK, MARGIN = 200, (0, 114, 178), (0, 0, 0), 18
QUALITY = TissueQuality(tissue_mm2=1.5, pen_fraction=0.01, focus=0.1, stain_strength=0.2, background="bright")


@pytest.fixture
def cut(fake_slide):
    """Cut a slide of 8,000 x 6,000 px whose tissue is a rectangle: x 2,000 to 6,000, y 1,500 to 4,500."""

    def make(**options):
        mask = np.zeros((600, 800), bool)
        mask[150:450, 200:600] = True
        size_px = (8000, 6000)
        tissue = TissueMask(mask, np.full((600, 800, 3), GREY, np.uint8), size_px)
        grid = tile_slide(fake_slide(size_px=size_px), tissue, GridConfig(min_tissue=1, **options))
        return grid, tissue.thumbnail

    return make


def summary_of(grid, quality=QUALITY):
    return GridSummary(
        slide_id=grid.slide_id,
        n_tiles=len(grid),
        tile_px=grid.config.tile_px,
        tile_mpp=grid.config.tile_mpp,
        mpp=grid.mpp,
        mpp_source=grid.mpp_source,
        size_level0_px=grid.size_level0_px,
        tissue_mpp=8,
        reader="fake",
        quality=quality,
        fingerprint=grid.fingerprint,
    )


def slide_part(picture, size=(600, 800)):
    return np.array(picture)[MARGIN : MARGIN + size[0], MARGIN : MARGIN + size[1]].astype(int)


def test_tiles_and_tissue_are_drawn_where_they_are(cut):
    grid, thumbnail = cut(tile_px=500)
    assert len(grid) == 8 * 6
    shown = slide_part(qc_picture(grid, thumbnail, summary_of(grid)))
    outside = np.ones((600, 800), bool)
    outside[148:453, 198:603] = False
    assert (shown[outside] == GREY).all()
    lines = (shown != GREY).any(axis=2)
    for x in range(200, 601, 50):
        assert lines[160:440, x].all(), x
    for y in range(150, 451, 50):
        assert lines[y, 210:590].all(), y
    assert (shown[155:195, 205:245] == GREY).all()  # inside a tile the slide is as it was
    dark = (shown < 90).all(axis=2)
    assert dark[148:153, 300].any()  # the tissue's outline
    assert dark[300, 198:203].any()


def test_neighbours_share_a_line_however_their_places_are_rounded(cut):
    grid, thumbnail = cut(tile_px=190, tile_mpp=0.99, allow_upsampling=True)
    shown = slide_part(qc_picture(grid, thumbnail, summary_of(grid)))
    for lines in ((shown[170:400, 235:555] != GREY).any(axis=2).all(axis=axis) for axis in (0, 1)):
        assert lines.sum() > 5
        assert not (lines[1:] & lines[:-1]).any()


def test_small_tiles_are_a_tint_through_which_the_slide_is_seen(cut):
    grid, thumbnail = cut(tile_px=20)
    shown = slide_part(qc_picture(grid, thumbnail, summary_of(grid)))
    middle = shown[160:440, 210:590].reshape(-1, 3)
    assert (middle == middle[0]).all()
    assert 10 < np.abs(middle[0] - GREY).max() < 80


def test_a_grid_without_tiles_and_a_slide_without_thumbnail_are_shown(cut):
    grid, thumbnail = cut(tile_px=500)
    empty = replace(grid, coords=grid.coords[:0], tissue_polygons={"type": "MultiPolygon", "coordinates": []})
    assert (slide_part(qc_picture(empty, thumbnail, summary_of(empty))) == GREY).all()
    blank = qc_picture(grid, None, summary_of(grid, quality=None))
    assert (slide_part(blank, (768, 1024))[:100] == 255).all()
    assert (slide_part(blank, (768, 1024)) != 255).any()


def test_on_a_dark_slide_the_lines_are_light(cut):
    grid, thumbnail = cut(tile_px=500)
    dark = summary_of(grid, replace(QUALITY, background="dark"))
    shown = slide_part(qc_picture(grid, np.zeros_like(thumbnail), dark))
    lines = shown[(shown > 0).any(axis=2)]
    assert np.median(lines.max(axis=1)) > 150


@pytest.mark.parametrize("scale", [0.1, 1.9])
def test_thumbnails_of_any_size_make_pictures_of_one_size(cut, scale):
    grid, _ = cut(tile_px=500)
    other = np.full((round(600 * scale), round(800 * scale), 3), GREY, np.uint8)
    assert qc_picture(grid, other, summary_of(grid)).width > 1024


def test_the_small_picture_fits_its_box(cut):
    grid, thumbnail = cut(tile_px=500)
    small = small_picture(grid, thumbnail, (208, 150), summary_of(grid))
    assert small.size == (200, 150)
    assert (np.array(small)[:30] == GREY).all()
    assert (np.array(small)[36:39, 100] < 120).any()


def test_the_picture_is_made_from_the_stored_grid_alone(cut, tmp_path):
    grid, thumbnail = cut(tile_px=500)
    save_grid(grid, tmp_path / "a.h5", thumbnail=thumbnail, quality=QUALITY, reader="fake")
    write_qc_picture(tmp_path / "a.png", tmp_path / "a.h5")
    assert picture_fingerprint(tmp_path / "a.png") == qc_fingerprint(load_summary(tmp_path / "a.h5"))
    with Image.open(tmp_path / "a.png") as found:
        assert found.width > 1000


def test_the_fingerprint_follows_what_is_shown(cut):
    grid, _ = cut(tile_px=500)
    told = summary_of(grid)
    changed = [replace(told, reader="x"), replace(told, fingerprint="x"), replace(told, quality=None)]
    changed.append(replace(told, quality=replace(QUALITY, focus=0.2)))
    assert len({qc_fingerprint(s) for s in [told, *changed]}) == 5
    assert qc_fingerprint(told) == qc_fingerprint(replace(told))
