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
    kept = np.zeros(mask.shape, bool)
    box = _box(mask)
    labels, sizes = label_pieces(mask[box])
    keep = sizes > max_px
    keep[0] = False
    kept[box] = keep[labels]
    return kept


def fill_small(mask: np.ndarray, max_px: float) -> np.ndarray:
    """Return bool (H, W) `mask` with its holes of `max_px` pixels or fewer filled."""
    filled = mask.copy()
    box = _box(mask, margin_px=1)
    labels, sizes = label_pieces(~mask[box])
    fill = sizes <= max_px
    fill[0] = True
    # what the margin belongs to goes on outside the box
    for axis, (cut, side) in enumerate(zip(box, mask.shape, strict=True)):
        if cut.start > 0:
            fill[labels.take(0, axis)] = False
        if cut.stop < side:
            fill[labels.take(-1, axis)] = False
    filled[box] = fill[labels]
    return filled


def _box(mask: np.ndarray, *, margin_px: int = 0) -> tuple[slice, slice]:
    """The part of `mask` beyond which nothing is set: labels cost most of the time."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    stop = np.minimum((y + height + margin_px, x + width + margin_px), mask.shape)
    return slice(max(0, y - margin_px), stop[0]), slice(max(0, x - margin_px), stop[1])
