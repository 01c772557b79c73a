import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tiling import (
    GridConfig,
    ResolutionError,
    TissueConfig,
    TissueMask,
    grid_fingerprint,
    load_grid,
    open_slide,
    paint,
    read_patches,
    regrid,
    save_grid,
    segment_tissue,
    tile_slide,
)


def wide(fake_slide, mpp=0.2628, **options):
    """A slide of 100,000 px cut everywhere."""
    size_px = (100_000, 3000)
    slide = fake_slide(size_px=size_px, mpp=mpp, downsamples=(1, 4, 16))
    mask = TissueMask(np.ones((15, 500), bool), np.zeros((15, 500, 3), np.uint8), size_px)
    return slide, tile_slide(slide, mask, GridConfig(min_tissue=0, **options), TissueConfig())


def side_of(grid):
    return grid.config.tile_px * grid.config.tile_mpp / grid.mpp


def centres(grid):
    return grid.coords + side_of(grid) / 2


@pytest.mark.parametrize("mpp", [0.2628, 0.2501, 0.4567])
@pytest.mark.parametrize(("tile_mpp", "tile_px"), [(1.0, None), (2.0, None), (0.5, 96), (0.7, 301), (4, 64)])
def test_centres_are_those_of_the_tiles_across_the_widest_slide(fake_slide, mpp, tile_mpp, tile_px):
    slide, grid = wide(fake_slide, mpp)
    found = regrid(grid, slide, tile_mpp=tile_mpp, tile_px=tile_px)
    assert len(found) == len(grid) > 700
    assert found.coords.dtype == np.int64
    assert np.abs(centres(found) - centres(grid)).max() <= 0.5
    assert len(np.unique(found.coords - grid.coords, axis=0)) == 1  # no drift at all
    # and within a pixel of where tile k of a row is by definition
    exact = np.arange(len(np.unique(grid.coords[:, 0]))) * (224 * 0.5 / mpp) + side_of(grid) / 2
    assert np.abs(np.unique(centres(found)[:, 0]) - exact).max() <= 1
    assert found.tile_px_level0 == round((tile_px or 224) * tile_mpp / mpp)
    assert found.read_px * slide.downsamples[found.level] == pytest.approx(side_of(found), rel=0.02)


@pytest.mark.parametrize(("tile_mpp", "tile_px"), [(1.0, None), (0.77, 100), (3.1, 50)])
@pytest.mark.parametrize("overlap_px", [0, 37])
def test_there_and_back_is_the_first_grid(fake_slide, tile_mpp, tile_px, overlap_px):
    slide, grid = wide(fake_slide, overlap_px=overlap_px)
    there = regrid(grid, slide, tile_mpp=tile_mpp, tile_px=tile_px)
    back = regrid(there, slide, tile_mpp=0.5, tile_px=224)
    assert np.array_equal(back.coords, grid.coords)
    assert (back.level, back.read_px, back.tile_px_level0) == (grid.level, grid.read_px, grid.tile_px_level0)


def test_the_distance_of_the_tiles_is_told_as_overlap(fake_slide):
    slide, grid = wide(fake_slide)
    assert regrid(grid, slide, tile_mpp=1.0).config.overlap_px == 112
    assert regrid(grid, slide, tile_mpp=2.0).config.overlap_px == 168
    assert regrid(grid, slide, tile_mpp=0.3).config.overlap_px == 0  # gaps
    assert regrid(grid, slide, tile_mpp=1.0, tile_px=112).config.overlap_px == 0


def test_tiles_that_leave_the_slide_stay_and_are_padded(fake_slide):
    slide = fake_slide(np.full((1000, 1200, 3), 90, np.uint8))
    mask = TissueMask(np.ones((100, 120), bool), np.zeros((100, 120, 3), np.uint8), (1200, 1000))
    grid = tile_slide(slide, mask, GridConfig(tile_px=200, tile_mpp=0.5))
    wide_grid = regrid(grid, slide, tile_mpp=1.0)
    assert wide_grid.coords[0].tolist() == [-100, -100]
    assert wide_grid.tissue_fraction[0] == pytest.approx(0.75**2)
    pixels = next(read_patches(slide, wide_grid, batch=100)).pixels
    assert (pixels[0, :50] == 255).all()
    assert (pixels[0, :, :50] == 255).all()
    assert (pixels[0, 51:, 51:] == 90).all()
    assert not np.isnan(paint(wide_grid, np.ones(len(wide_grid))).values).all()


def test_the_same_place_is_seen_in_a_real_file(phantom):
    with open_slide(phantom.path) as slide:
        config = GridConfig(tile_px=64, tile_mpp=0.5, exact_pixels=True)
        grid = tile_slide(slide, segment_tissue(slide), config)
        coarse = regrid(grid, slide, tile_mpp=2.0)
        assert (coarse.coords < 0).any() or (coarse.coords + coarse.tile_px_level0 > slide.size_px).any()
        fine = np.concatenate([p.pixels for p in read_patches(slide, grid)])
        seen = np.concatenate([p.pixels for p in read_patches(slide, coarse)])
    means = fine.reshape(len(fine), 16, 4, 16, 4, 3).mean(axis=(2, 4))

    def error(dx, dy):
        return np.abs(seen[:, 24 + dy : 40 + dy, 24 + dx : 40 + dx] - means).mean()

    shifts = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    assert min(shifts, key=lambda s: error(*s)) == (0, 0)
    assert error(0, 0) < 0.5 * min(error(*s) for s in shifts if s != (0, 0))


@pytest.mark.parametrize("tile_mpp", [0.5, 0.7, 2.0])
def test_tissue_is_measured_anew(fake_slide, tile_mpp):
    size_px = (600, 400)
    mask = gaussian_filter(np.random.default_rng(0).standard_normal((400, 600)), 9) > 0
    tissue = TissueMask(mask, np.zeros((400, 600, 3), np.uint8), size_px)
    slide = fake_slide(size_px=size_px)
    grid = tile_slide(slide, tissue, GridConfig(tile_px=50), TissueConfig(tissue_mpp=0.5))
    found = regrid(grid, slide, tile_mpp=tile_mpp)
    around, side = np.pad(mask, 200), found.tile_px_level0
    counted = [around[y + 200 : y + 200 + side, x + 200 : x + 200 + side].mean() for x, y in found.coords]
    np.testing.assert_allclose(found.tissue_fraction, counted, atol=1e-6)


def test_it_is_kept_and_known_from_a_grid_cut_at_that_resolution(fake_slide, tmp_path):
    slide, grid = wide(fake_slide)
    found = regrid(grid, slide, tile_mpp=1.0)
    assert found.fingerprint != grid_fingerprint(slide, found.config, found.tissue_config)
    assert found.fingerprint != grid.fingerprint
    save_grid(found, tmp_path / "a.h5")
    loaded = load_grid(tmp_path / "a.h5")
    assert loaded.fingerprint == found.fingerprint
    assert np.array_equal(loaded.coords, found.coords)


def test_an_empty_grid_stays_empty(fake_slide):
    slide = fake_slide(size_px=(900, 900))
    mask = TissueMask(np.zeros((9, 9), bool), np.zeros((9, 9, 3), np.uint8), (900, 900))
    assert regrid(tile_slide(slide, mask), slide, tile_mpp=2.0).coords.shape == (0, 2)


def test_what_cannot_be_is_refused(fake_slide):
    slide, grid = wide(fake_slide)
    with pytest.raises(ResolutionError, match="too coarse"):
        regrid(grid, slide, tile_mpp=0.1)
    other, _ = wide(fake_slide, mpp=0.25)
    with pytest.raises(ValueError, match="the grid is of fake"):
        regrid(grid, other, tile_mpp=1.0)


def test_beyond_the_border_the_file_holds_no_tile(phantom):
    """Such a place is whole tiles away from the first, and must not be taken for the last of the row."""
    with open_slide(phantom.path) as slide:
        assert slide.compressed_tile(0, 0, 0, 256)
        assert slide.compressed_tile(-256, 256, 0, 256) is None
        assert slide.compressed_tile(256, -256, 0, 256) is None
