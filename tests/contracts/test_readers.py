"""What every reader of slides keeps to, whatever the format."""

import os
import shutil

import cv2
import numpy as np
import pytest

from tiling import READERS, ResolutionError, SlideError, open_slide

SAMPLES = {
    "jpeg-tiff": ".svs",
    "openslide": ".svs",
}  # the suffix of a file that the reader opens, written from the phantom


@pytest.fixture(params=sorted(READERS))
def reader(request):
    return READERS[request.param]


@pytest.fixture
def slide(reader, phantom):
    with reader(phantom.path, id="ward/a", mpp=None, fallback_mpp=None) as opened:
        yield opened


def test_every_reader_has_a_sample():
    assert set(SAMPLES) == set(READERS)


def test_it_says_what_it_opened(slide, reader, phantom):
    assert slide.id == "ward/a"
    assert slide.path == phantom.path
    assert slide.size_px == phantom.size_px
    assert slide.mpp == pytest.approx(phantom.mpp, rel=1e-9)
    assert type(slide.mpp) is float
    assert READERS[slide.reader] is reader
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in slide.properties.items())


def test_levels_shrink(slide):
    assert slide.level_sizes_px[0] == slide.size_px
    assert slide.downsamples[0] == 1
    assert list(slide.downsamples) == sorted(set(slide.downsamples))
    for (width, height), downsample in zip(slide.level_sizes_px, slide.downsamples, strict=True):
        assert width * downsample == pytest.approx(slide.size_px[0], rel=0.02)
        assert height * downsample == pytest.approx(slide.size_px[1], rel=0.02)


@pytest.mark.parametrize("size_px", [(1, 1), (257, 90), (1600, 1203)])
def test_a_region_is_a_uint8_picture_of_the_asked_size(slide, size_px):
    for level in range(len(slide.downsamples)):
        region = slide.read(0, 0, level, size_px)
        assert region.shape == (size_px[1], size_px[0], 3)
        assert region.dtype == np.uint8


def test_a_region_is_where_it_was_asked_for(slide):
    whole = slide.read(0, 0, 0, slide.size_px)
    for x, y, size_px in [(0, 0, (50, 60)), (511, 255, (300, 300)), (1599, 1202, (1, 1))]:
        region = slide.read(x, y, 0, size_px)
        np.testing.assert_array_equal(region, whole[y : y + size_px[1], x : x + size_px[0]])


def test_levels_show_the_same_place(slide):
    whole = slide.read(0, 0, 0, slide.size_px)
    for level, (width, height) in enumerate(slide.level_sizes_px):
        small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        assert np.abs(slide.read(0, 0, level, (width, height)).astype(int) - small).mean() < 4
        down = slide.downsamples[level]
        x, y, side = round(96 * down), round(64 * down), 40
        part = slide.read(x, y, level, (side, side))
        assert np.abs(part.astype(int) - small[64 : 64 + side, 96 : 96 + side]).mean() < 6


def test_beyond_the_border_is_white_on_every_side(slide):
    width, height = slide.size_px
    for x, y in [(-30, 100), (100, -30), (width, 100), (100, height), (width + 9999, -9999)]:
        assert (slide.read(x, y, 0, (30, 30)) == 255).all()


def test_a_read_changes_no_later_one(slide):
    one = slide.read(300, 300, 0, (64, 64)).copy()
    slide.read(0, 0, len(slide.downsamples) - 1, (10, 10))
    slide.read(-5, -5, 0, (10, 10))
    np.testing.assert_array_equal(slide.read(300, 300, 0, (64, 64)), one)


def test_no_such_region_is_a_callers_mistake(slide):
    for level, size_px in [(-1, (5, 5)), (len(slide.downsamples), (5, 5)), (0, (0, 5)), (0, (5, -5))]:
        with pytest.raises(ValueError, match="ward/a"):
            slide.read(0, 0, level, size_px)


def test_given_resolutions_hold(reader, phantom):
    with reader(phantom.path, id="a", mpp=0.3, fallback_mpp=0.7) as slide:
        assert (slide.resolution.mpp, slide.resolution.source) == (0.3, "manifest")
    with reader(phantom.path, id="a", mpp=None, fallback_mpp=0.7) as slide:
        assert slide.mpp == pytest.approx(phantom.mpp)


def test_what_it_cannot_open_is_a_slide_error(reader, phantom, tmp_path):
    path = tmp_path / ("a" + SAMPLES[next(iter(READERS))])
    for content in (b"", b"not a slide", phantom.path.read_bytes()[:2000]):
        path.write_bytes(content)
        with pytest.raises(SlideError, match="ward/a"):
            reader(path, id="ward/a", mpp=None, fallback_mpp=None)


def test_two_handles_of_one_file_do_not_disturb_each_other(reader, phantom):
    options = {"id": "a", "mpp": None, "fallback_mpp": None}
    with reader(phantom.path, **options) as one:
        region = one.read(300, 300, 0, (64, 64))
        with reader(phantom.path, **options) as two:
            np.testing.assert_array_equal(two.read(300, 300, 0, (64, 64)), region)
        np.testing.assert_array_equal(one.read(300, 300, 0, (64, 64)), region)


def test_identity_follows_the_file_not_its_name(reader, phantom, tmp_path):
    path = tmp_path / phantom.path.name
    shutil.copy2(phantom.path, path)
    with open_slide(phantom.path) as one, open_slide(path, id="other") as two:
        assert one.fingerprint == two.fingerprint
    os.utime(path, (5, 5))
    with open_slide(path) as slide:
        assert slide.fingerprint != one.fingerprint


@pytest.mark.data
def test_real_files_keep_to_it_too(data_dir):
    names = [
        "CMU-1-Small-Region.svs",
        "tcga-cr-7395-01a-01-ts1.svs",
        "test3-DAPI-2-387.ndpi",
        "idc_14082_4mpp.tif",
    ]
    for name in names:
        with open_slide(data_dir / "slides" / name) as slide:
            last = len(slide.downsamples) - 1
            assert list(slide.downsamples) == sorted(set(slide.downsamples))
            width, height = slide.level_sizes_px[last]
            whole = slide.read(0, 0, last, (width, height))
            part = slide.read(round(20 * slide.downsamples[last]), 0, last, (width - 20, height // 2))
            assert np.abs(part.astype(int) - whole[: height // 2, 20:]).mean() < 2
            try:
                assert 0.05 <= slide.mpp <= 20
            except ResolutionError as error:
                assert "--mpp" in str(error)  # noqa: PT017  one of these slides states none
