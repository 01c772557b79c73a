import numpy as np
import pytest

from tiling import GridConfig, TissueMask, open_slide, read_patches, segment_tissue, tile_slide


def tiled(slide, **config):
    """All tiles of a slide, wherever they lie."""
    mask = TissueMask(np.ones((8, 8), bool), np.zeros((8, 8, 3), np.uint8), slide.size_px)
    return tile_slide(slide, mask, GridConfig(**{"min_tissue": 0, **config}))


def pixels_of(slide, grid, batch=7):
    return np.concatenate([patches.pixels for patches in read_patches(slide, grid, batch=batch)])


def disc(centre, radius):
    """Paint a dark disc on white, with an edge one pixel of the level wide."""

    def paint(xs, ys, down):
        distance = np.hypot(xs - centre[0], ys[:, None] - centre[1])
        shade = 255 - 200 * np.clip((radius - distance) / down + 0.5, 0, 1)
        return np.repeat(np.rint(shade).astype(np.uint8)[..., None], 3, axis=2)

    return paint


def slope(xs, ys, _down):
    """Paint red rising to the right, green falling downwards, blue flat."""
    red = np.broadcast_to(xs / 8, (len(ys), len(xs)))
    green = np.broadcast_to(250 - ys[:, None] / 8, (len(ys), len(xs)))
    return np.rint(np.stack([red, green, np.full_like(red, 77)], axis=2)).clip(0, 255).astype(np.uint8)


def test_patches_at_the_scanned_resolution_are_the_slides_own_pixels(phantom):
    with open_slide(phantom.path) as slide:
        grid = tile_slide(slide, segment_tissue(slide), GridConfig(tile_px=112))
        patches = pixels_of(slide, grid)
        direct = [slide.read(x, y, 0, (112, 112)) for x, y in grid.coords.tolist()]
    assert len(grid) > 20
    np.testing.assert_array_equal(patches, direct)


@pytest.mark.parametrize("batch", [1, 7, 20, 64])
def test_batches_follow_the_grid(fake_slide, batch):
    slide = fake_slide(size_px=(500, 400), paint=slope)
    grid = tiled(slide, tile_px=100)
    parts = list(read_patches(slide, grid, batch=batch))
    assert [part.start for part in parts] == list(range(0, 20, batch))
    assert all(len(part) == len(part.unreadable) <= batch for part in parts)
    assert all(part.pixels.dtype == np.uint8 and part.pixels.shape[1:] == (100, 100, 3) for part in parts)
    found = np.concatenate([part.pixels for part in parts])
    np.testing.assert_array_equal(found, [slide.read(x, y, 0, (100, 100)) for x, y in grid.coords.tolist()])


@pytest.mark.parametrize("mpp", [0.25, 0.2628, 0.4, 0.5, 1.0])
@pytest.mark.parametrize("tile_mpp", [0.5, 1.0, 1.7, 4.0])
def test_a_resampled_patch_has_the_right_place_scale_and_value(fake_slide, mpp, tile_mpp):
    side = 96 * tile_mpp / mpp
    size_px = (round(3 * side) + 2, round(2 * side) + 2)
    centre, radius = (1.45 * side, 0.6 * side), 0.3 * side
    slide = fake_slide(size_px=size_px, paint=disc(centre, radius), mpp=mpp, downsamples=(1, 4))
    grid = tiled(slide, tile_px=96, tile_mpp=tile_mpp, allow_upsampling=True)
    row = [k for k, (x, y) in enumerate(grid.coords.tolist()) if abs(x - side) < 1 and y == 0]
    (patch,) = pixels_of(slide, grid)[row]
    weight = (255.0 - patch[..., 0]) / 200
    y, x = np.mgrid[0:96, 0:96] + 0.5
    found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    expected = np.array([centre[0] - side, centre[1]]) * mpp / tile_mpp
    np.testing.assert_allclose(found, expected, atol=0.6)  # patch pixels
    assert weight.sum() == pytest.approx(np.pi * (radius * mpp / tile_mpp) ** 2, rel=0.02)
    if mpp <= tile_mpp:  # enlarging sharpens an edge, averaging cannot
        assert weight.max() <= 1.02
    assert patch[round(expected[1]), round(expected[0]), 0] == pytest.approx(55, abs=3)
    assert patch[2, 2, 0] >= 250


@pytest.mark.parametrize("mpp", [0.25, 0.2628])
def test_a_gradient_stays_what_it_is(fake_slide, mpp):
    slide = fake_slide(size_px=(1900, 1500), paint=slope, mpp=mpp)
    grid = tiled(slide, tile_px=64)
    patches = pixels_of(slide, grid)
    middle = np.arange(64) + 0.5
    for (x, y), patch in zip(grid.coords.tolist(), patches, strict=True):
        np.testing.assert_allclose(patch[30, :, 0], (x + middle * 0.5 / mpp) / 8, atol=1.01)
        np.testing.assert_allclose(patch[:, 30, 1], 250 - (y + middle * 0.5 / mpp) / 8, atol=1.01)
    assert (patches[..., 2] == 77).all()


def test_fine_stripes_are_averaged_not_sampled(fake_slide):
    def stripes(xs, ys, _down):
        shade = np.where(xs.astype(int) % 2, 40, 220).astype(np.uint8)
        return np.broadcast_to(shade[None, :, None], (len(ys), len(xs), 3))

    slide = fake_slide(size_px=(800, 400), paint=stripes, mpp=0.125)
    patches = pixels_of(slide, tiled(slide, tile_px=50))
    assert np.abs(patches.astype(int) - 130).max() <= 1


def test_an_unreadable_tile_is_marked_and_the_rest_is_right(fake_slide):
    whole = fake_slide(size_px=(500, 400), paint=slope)
    broken = fake_slide(size_px=(500, 400), paint=slope, broken_px=[(250, 150), (499, 399)])
    grid = tiled(whole, tile_px=100)
    parts = list(read_patches(broken, grid, batch=6))
    unreadable = np.concatenate([part.unreadable for part in parts])
    assert grid.coords[unreadable].tolist() == [[200, 100], [400, 300]]
    found, right = np.concatenate([part.pixels for part in parts]), pixels_of(whole, grid)
    np.testing.assert_array_equal(found[~unreadable], right[~unreadable])
    assert (found[unreadable] == 255).all()
    assert "1 unreadable" in repr(parts[1])


def test_only_a_slides_own_errors_are_taken_for_unreadable_tiles(fake_slide):
    def fail(*_):
        raise MemoryError

    slide = fake_slide(size_px=(500, 400), paint=fail)
    with pytest.raises(MemoryError):
        next(read_patches(slide, tiled(slide, tile_px=100)))


def test_an_empty_grid_yields_nothing(fake_slide):
    slide = fake_slide(size_px=(50, 50))
    assert list(read_patches(slide, tiled(slide, tile_px=100))) == []
