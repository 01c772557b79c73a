"""Connected pieces of a mask, by their size."""

import cv2
import numpy as np


def label_pieces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (H, W) int32, 0 where `mask` is not set, and each label's size (N,) in pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=4
    )
    return labels, stats[:, cv2.CC_STAT_AREA]


def drop_small(mask: np.ndarray, max_px: float) -> np.ndarray:
    """Return bool (H, W) `mask` without its pieces of `max_px` pixels or fewer."""
    labels, sizes = label_pieces(mask)
    keep = sizes > max_px
    keep[0] = False
    return keep[labels]


def fill_small(mask: np.ndarray, max_px: float) -> np.ndarray:
    """Return bool (H, W) `mask` with its holes of `max_px` pixels or fewer filled."""
    return ~drop_small(~mask, max_px)
