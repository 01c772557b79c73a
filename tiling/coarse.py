"""A raster four times coarser, for what need not be known to the pixel."""

import cv2
import numpy as np

COARSE = 4  # a picture's sides are padded to multiples: other ratios take five times longer


def shrink(image: np.ndarray) -> np.ndarray:
    """Return the means (h, w) of 4 x 4 pixels of an `image` (H, W), in its dtype; h is H / 4, rounded up."""
    below, right = (-side % COARSE for side in image.shape[:2])
    padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    size = (padded.shape[1] // COARSE, padded.shape[0] // COARSE)
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)


def share_of(mask: np.ndarray) -> np.ndarray:
    """Return the share (h, w) float32 of each 4 x 4 pixels that is set in a `mask` (H, W) bool or uint8."""
    # in bytes, whose rounding is far below a pixel
    _, white = cv2.threshold(mask.view(np.uint8), 0, 255, cv2.THRESH_BINARY)
    return shrink(white).astype(np.float32) / 255


def enlarge(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a shrunk `image` (h, w) in the `shape` (H, W) it came from, in its dtype."""
    size = (image.shape[1] * COARSE, image.shape[0] * COARSE)
    large = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(large[: shape[0], : shape[1]])
