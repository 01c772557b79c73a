import cv2
import numpy as np
import pytest

from tiling.pieces import drop_small, fill_small, label_pieces


def filled_by_labels(mask, max_px):
    labels, sizes = label_pieces(~mask)
    fill = sizes <= max_px
    fill[0] = True
    return fill[labels]


def random_masks(n):
    rng = np.random.default_rng(0)
    for number in range(n):
        shape = tuple(rng.integers(1, 50, 2))
        if number % 2:
            smooth = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (5, 5), 1)
            yield smooth.reshape(shape) > rng.uniform(-0.3, 0.3), int(rng.integers(0, 200))
        else:
            yield rng.random(shape) < rng.uniform(0.05, 0.95), int(rng.integers(0, 30))


def test_pieces_and_holes_are_counted_to_the_pixel_whatever_the_mask_looks_like():
    for mask, max_px in random_masks(600):
        before = mask.copy()
        np.testing.assert_array_equal(fill_small(mask, max_px), filled_by_labels(mask, max_px))
        np.testing.assert_array_equal(drop_small(mask, max_px), ~filled_by_labels(~mask, max_px))
        np.testing.assert_array_equal(mask, before)


def test_a_thin_ring_goes_without_the_piece_inside_it():
    mask = np.zeros((60, 60), bool)
    mask[5:55, 5:55] = True
    mask[6:54, 6:54] = False
    mask[10:50, 10:50] = True
    found = drop_small(mask, 500)
    assert found.sum() == 40 * 40
    np.testing.assert_array_equal(found[10:50, 10:50], True)


def test_a_small_hole_is_filled_with_its_island_and_a_large_one_is_left():
    mask = np.ones((60, 100), bool)
    mask[10:20, 10:20] = False
    mask[14:16, 14:16] = True
    mask[10:50, 40:90] = False
    found = fill_small(mask, 96)
    assert found[10:20, 10:20].all()
    assert not found[10:50, 40:90].any()
    assert not fill_small(mask, 95)[10, 10]


@pytest.mark.parametrize("value", [True, False])
def test_whole_and_empty_masks_stay(value):
    mask = np.full((7, 9), value)
    assert (drop_small(mask, 5) == value).all()
    assert (fill_small(mask, 5) == value).all()
