import numpy as np
import pytest

from tiling.coarse import enlarge, share_of, shrink


@pytest.mark.parametrize("shape", [(1, 1), (8, 12), (7, 13), (3, 40)])
def test_any_shape_is_shrunk_and_enlarged_to_what_it_was(shape):
    pixels = np.full(shape, 7, np.uint8)
    small = shrink(pixels)
    assert small.shape == (-(-shape[0] // 4), -(-shape[1] // 4))
    np.testing.assert_array_equal(enlarge(small, shape), pixels)


def test_a_share_is_counted_to_the_pixel():
    mask = np.random.default_rng(0).random((40, 60)) < 0.3
    counts = mask.reshape(10, 4, 15, 4).sum(axis=(1, 3))
    np.testing.assert_array_equal(np.rint(share_of(mask) * 16), counts)
    np.testing.assert_array_equal(share_of(mask.astype(np.uint8) * 5), share_of(mask))
