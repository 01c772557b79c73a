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
    return ~fill_small(~mask, max_px)


def fill_small(mask: np.ndarray, max_px: float) -> np.ndarray:
    """Return bool (H, W) `mask` with its holes of `max_px` pixels or fewer filled.

    What the border of the picture cuts off is a hole too. Pixels that meet only at a corner are in one
    piece of the mask, but in two holes.
    """
    framed = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    # rings through the pixels at the border of pieces: ten times faster than labels
    rings, tree = cv2.findContours(framed, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    parents = np.asarray(tree, np.int32)[0, :, 3]
    areas = np.array([cv2.contourArea(ring, oriented=True) for ring in rings])
    steps = np.array([len(ring) if len(ring) > 1 else 0 for ring in rings])
    is_hole = areas > 0
    # Pick's theorem: pixels inside a hole's ring, or inside and on a piece's ring
    pixels = np.abs(areas) + np.where(is_hole, -steps, steps) / 2 + 1
    np.subtract.at(pixels, parents[1:], pixels[1:].copy())
    small = is_hole & (pixels <= max_px)
    islands = np.append(False, small[parents[1:]])
    chosen = [ring for ring, taken in zip(rings, small | islands, strict=True) if taken]
    filled = cv2.drawContours(framed, chosen, -1, 1, cv2.FILLED)
    return np.ascontiguousarray(filled[1:-1, 1:-1]).view(bool)
