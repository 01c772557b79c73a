import numpy as np
import openslide
import pytest

from tiling import ResolutionError, write_slide


@pytest.fixture(scope="module")
def smooth_pixels():
    y, x = np.mgrid[0:997, 0:1603]
    planes = [128 + 100 * np.sin(x / 90), 128 + 100 * np.cos(y / 70), 128 + 100 * np.sin((x + y) / 120)]
    return np.stack(planes, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def written(tmp_path_factory, smooth_pixels):
    path = tmp_path_factory.mktemp("pyramid") / "slide.svs"
    write_slide(path, smooth_pixels, mpp=0.26281234567891)
    with openslide.OpenSlide(path) as slide:
        yield slide


def read(slide, level):
    size = slide.level_dimensions[level]
    return np.asarray(slide.read_region((0, 0), level, size).convert("RGB")).astype(int)


def test_openslide_takes_it_for_a_scanners_file(written):
    assert written.properties["openslide.vendor"] == "aperio"
    assert float(written.properties["openslide.mpp-x"]) == pytest.approx(0.26281234567891, rel=1e-14)
    assert float(written.properties["openslide.mpp-y"]) == pytest.approx(0.26281234567891, rel=1e-14)


def test_the_resolution_stands_for_a_magnification_too(tmp_path, smooth_pixels):
    write_slide(tmp_path / "a.svs", smooth_pixels, mpp=0.5)
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.properties["openslide.objective-power"] == "20"


def test_levels_are_each_a_quarter_of_the_one_before(written, smooth_pixels):
    assert written.level_dimensions == ((1603, 997), (401, 249))
    assert written.level_downsamples == pytest.approx((1, 4), rel=0.01)
    box = smooth_pixels[100:104, 200:204].mean(axis=(0, 1))
    assert np.abs(read(written, 1)[25, 50] - box).max() < 6


def test_pixels_come_back_as_given_but_for_jpeg(written, smooth_pixels):
    difference = np.abs(read(written, 0) - smooth_pixels)
    assert difference.mean() < 2
    assert np.quantile(difference, 0.999) < 12


def test_large_slides_get_a_third_level(tmp_path):
    write_slide(tmp_path / "a.svs", np.full((3200, 3300, 3), 200, np.uint8), mpp=0.25)
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.level_downsamples == pytest.approx((1, 4, 16), rel=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 3), (17, 300, 3), (256, 256, 3)])
def test_any_size_works(tmp_path, shape):
    write_slide(tmp_path / "a.svs", np.full(shape, 90, np.uint8), mpp=1.0)
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.dimensions == (shape[1], shape[0])
        assert np.abs(read(slide, 0) - 90).max() <= 2


def test_a_slide_may_state_no_resolution(tmp_path, smooth_pixels):
    write_slide(tmp_path / "a.svs", smooth_pixels, mpp=None)
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert "openslide.mpp-x" not in slide.properties
        assert "openslide.objective-power" not in slide.properties


def test_the_same_pixels_make_the_same_file(tmp_path, smooth_pixels):
    for name in ("a.svs", "b.svs"):
        write_slide(tmp_path / name, smooth_pixels, mpp=0.5)
    assert (tmp_path / "a.svs").read_bytes() == (tmp_path / "b.svs").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, smooth_pixels):
    path = tmp_path / "a.svs"
    write_slide(path, smooth_pixels, mpp=0.5)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="tile"):
        write_slide(path, smooth_pixels, mpp=0.5, tile_px=17)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match="wanted"):
        write_slide(tmp_path / "a.svs", np.zeros((4, 4), np.uint8), mpp=0.5)
    with pytest.raises(ResolutionError, match="50"):
        write_slide(tmp_path / "a.svs", np.zeros((4, 4, 3), np.uint8), mpp=50)
