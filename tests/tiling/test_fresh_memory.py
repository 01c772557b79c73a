"""Memory for pixels: its shape, its place, all of it writable."""

import numpy as np

from tiling.fresh_memory import empty_pixels


def test_pixels_begin_on_a_huge_page():
    for shape in [(3, 5, 7, 3), (64, 256, 256, 3), (0, 4, 4, 3)]:
        pixels = empty_pixels(shape)
        assert pixels.shape == shape
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.ctypes.data % (2 << 20) == 0 or not pixels.size
        pixels[:] = 7
        assert (pixels == 7).all()
