"""Memory for many pixels: fresh pages of 4 KB cost a good part of the decoding that fills them."""

import math

import numpy as np

_HUGE_PAGE_BYTES = 2 << 20


def empty_pixels(shape: tuple[int, ...]) -> np.ndarray:
    """Return uint8 pixels with nothing in them yet, on whole huge pages where the system has such."""
    n = math.prod(shape)
    memory = np.empty(n + 2 * _HUGE_PAGE_BYTES, np.uint8)  # from 4 MB on numpy asks for huge pages
    start = -memory.ctypes.data % _HUGE_PAGE_BYTES
    return memory[start : start + n].reshape(shape)
