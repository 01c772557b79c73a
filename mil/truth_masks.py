"""Truth masks: pictures that say where a slide is positive, and what of it that makes of tiles."""

from pathlib import Path

import cv2
import numpy as np

from tiling import FormatError, TileGrid, covered_share

_POSITIVE = 128  # of 255, and what is brighter
_LEAST_SHARE = 0.5  # of a tile's area


def load_truth_mask(path: Path) -> np.ndarray:
    """Return where an 8-bit mask over a whole slide, at any scale, is positive, bool (H, W).

    Raises:
        FormatError: there is no such picture.
    """
    # asked first: of a file that is not there, OpenCV prints a warning of its own
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if mask is None:
        what = "is no picture" if path.is_file() else "there is no such truth mask"
        raise FormatError(f"{path}: {what}", hint="give an 8-bit PNG over the whole slide")
    return mask >= _POSITIVE


def positive_tiles(grid: TileGrid, mask: np.ndarray) -> np.ndarray:
    """Return the tiles of which at least half the area is positive in a mask, bool (N,)."""
    return covered_share(grid, mask) >= _LEAST_SHARE
