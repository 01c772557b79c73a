"""Squares of a slide: each is what the slide itself reads at its place."""

import cv2
import numpy as np
import pytest
import simplejpeg

from tiling import DeepZoom, SlideError, open_slide


@pytest.fixture
def zoom(phantom):
    """1600 x 1203 px with levels 1, 1/4: the file's own squares are 256 px."""
    with open_slide(phantom.path) as slide:
        yield DeepZoom(slide)


def test_one_square_holds_the_whole_slide_at_last(zoom):
    assert [zoom.size_px(h) for h in range(zoom.most_halvings + 1)] == [
        (1600, 1203),
        (800, 602),
        (400, 301),
        (200, 151),
    ]
    assert zoom.read(3, 0, 0).shape == (151, 200, 3)


@pytest.mark.parametrize(
    ("column", "row", "size"), [(0, 0, (256, 256)), (3, 2, (256, 256)), (6, 4, (64, 179))]
)
def test_at_full_size_a_square_is_the_slides_own_pixels(zoom, column, row, size):
    square = zoom.read(0, column, row)
    np.testing.assert_array_equal(square, zoom.slide.read(column * 256, row * 256, 0, size))


@pytest.mark.parametrize(("column", "row", "size"), [(0, 0, (256, 256)), (1, 1, (144, 45))])
def test_where_the_file_has_the_level_a_square_is_its_pixels(zoom, column, row, size):
    assert zoom.slide.level_sizes_px[1] == zoom.size_px(2)
    square = zoom.read(2, column, row)
    np.testing.assert_array_equal(square, zoom.slide.read(column * 1024, row * 1024, 1, size))


@pytest.mark.parametrize(("column", "row"), [(0, 0), (1, 1), (3, 2)])
def test_between_levels_a_square_is_the_average_of_the_finer_one(zoom, column, row):
    found = zoom.read(1, column, row)
    height, width = found.shape[:2]
    finer = zoom.slide.read(column * 512, row * 512, 0, (2 * width, min(2 * height, 1203 - row * 512)))
    expected = cv2.resize(finer, (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(float) - expected).mean() < 2  # decoded at half size, not averaged


def test_as_jpeg_a_square_is_the_files_own_bytes_or_near_its_pixels(zoom):
    own = zoom.jpeg(0, 1, 1)
    assert own == zoom.slide.compressed_tile(256, 256, 0, 256)
    np.testing.assert_array_equal(simplejpeg.decode_jpeg(own), zoom.read(0, 1, 1))
    border = simplejpeg.decode_jpeg(zoom.jpeg(0, 6, 4))
    assert border.shape == (179, 64, 3)
    assert np.abs(border.astype(float) - zoom.read(0, 6, 4)).mean() < 3


@pytest.mark.parametrize("place", [(0, 7, 0), (0, 0, 5), (4, 0, 0), (-1, 0, 0), (0, -1, 0), (3, 1, 0)])
def test_there_are_no_squares_beyond_the_slide(zoom, place):
    with pytest.raises(ValueError, match="no square"):
        zoom.read(*place)


def test_squares_lie_where_they_should_on_a_slide_of_odd_levels(fake_slide):
    """Red tells x and green y, in sixteenths of the slide: each square has to show its own place."""

    def paint(xs, ys, _down):
        out = np.zeros((len(ys), len(xs), 3), np.uint8)
        out[..., 0] = np.clip(xs / 9001 * 255, 0, 255)[None]
        out[..., 1] = np.clip(ys / 7003 * 255, 0, 255)[:, None]
        return out

    zoom = DeepZoom(fake_slide(size_px=(9001, 7003), paint=paint, downsamples=(1, 3.7, 17)))
    for halvings in range(zoom.most_halvings + 1):
        width, height = zoom.size_px(halvings)
        column, row = (width - 1) // 256, (height - 1) // 256
        square = zoom.read(halvings, column, row)
        at = (np.array([column, row]) * 256 + np.array(square.shape[1::-1]) / 2) * 2**halvings
        centre = square[square.shape[0] // 2, square.shape[1] // 2, :2]
        assert np.abs(centre - at / (9001, 7003) * 255).max() < 2 + 2**halvings / 30


def test_a_slide_without_small_levels_is_never_read_whole_nor_twice(fake_slide):
    most = n_px = 0

    def paint(xs, ys, _down):
        nonlocal most, n_px
        most = max(most, len(xs), len(ys))
        n_px += len(xs) * len(ys)
        return np.full((len(ys), len(xs), 3), 90, np.uint8)

    zoom = DeepZoom(fake_slide(size_px=(9000, 6100), paint=paint))
    top = zoom.read(zoom.most_halvings, 0, 0)
    assert top.shape[:2] == zoom.size_px(zoom.most_halvings)[::-1]
    assert (top == 90).all()
    assert most <= 2048
    assert n_px == 9000 * 6100
    zoom.jpeg(zoom.most_halvings - 1, 1, 0)
    np.testing.assert_array_equal(zoom.read(zoom.most_halvings, 0, 0), top)
    assert n_px == 9000 * 6100  # what was put together is kept


def test_what_cannot_be_read_is_said(fake_slide):
    zoom = DeepZoom(fake_slide(size_px=(600, 600), broken_px=[(300, 300)]))
    assert zoom.jpeg(0, 0, 0)
    with pytest.raises(SlideError, match="cannot be read"):
        zoom.jpeg(0, 1, 1)
