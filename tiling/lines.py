"""The edges of coverslips: long, thin, straight lines."""

from collections.abc import Sequence

import cv2
import numpy as np

_MAX_WIDTH_UM = 110.0
_MIN_LENGTH_UM = 2500.0  # no strand of tissue is straight for so long
_BEND = 0.02  # how far a line may leave its chord, as a share of its length


def without_lines(tissue: np.ndarray, mpp: float) -> np.ndarray:
    """Return bool (H, W) `tissue` without long, thin, straight pieces, alone or sticking out of tissue."""
    side = 2 * round(0.5 * _MAX_WIDTH_UM / mpp) + 1
    pixels = tissue.view(np.uint8)
    if not any(_is_long(ring, mpp) for ring in _rings(pixels)):  # specks of ink, say
        return tissue
    body = cv2.morphologyEx(pixels, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    thin = cv2.subtract(pixels, body)
    contours = _rings(thin)
    lines = [c for c in contours if _is_long(c, mpp) and _is_line(c, mpp)]
    if not lines:
        return tissue
    chords = [cv2.fitLine(line, cv2.DIST_L2, 0, 0.01, 0.01).ravel() for line in lines]
    # what tissue or a gap cuts off a line is too short to be told from a strand, but lies on the chord
    lines += [c for c in contours if any(_lies_on(chord, c, mpp) for chord in chords)]
    drawn = cv2.drawContours(np.zeros(tissue.shape, np.uint8), lines, -1, 1, cv2.FILLED)
    return tissue & ~(drawn.view(bool) & thin.view(bool))


def _rings(pixels: np.ndarray) -> Sequence[np.ndarray]:
    return cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]


def _is_long(contour: np.ndarray, mpp: float) -> bool:
    return len(contour) > 2 * _MIN_LENGTH_UM / mpp


def _is_line(contour: np.ndarray, mpp: float) -> bool:
    _, sides, _ = cv2.minAreaRect(contour)
    length, width = max(sides) * mpp, min(sides) * mpp
    return length > _MIN_LENGTH_UM and width < _MAX_WIDTH_UM + _BEND * length


def _lies_on(chord: np.ndarray, contour: np.ndarray, mpp: float) -> bool:
    away = (contour[:, 0] - chord[2:]) @ np.array([-chord[1], chord[0]])
    return bool(np.abs(away).max() * mpp < _MAX_WIDTH_UM)
