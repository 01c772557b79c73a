"""Pen marks: colours and depths that no stain has, and what is left of them at their edges."""

from math import ceil

import cv2
import numpy as np

from .pieces import label_pieces

# Hue of 180, saturation and value of 255 (OpenCV): lowest and highest. What is surely ink: of five real
# sections in H&E and one in DAB, next to nothing lies there
_SURE = {
    "green": [((37, 64, 0), (97, 255, 255))],
    "blue": [((97, 122, 0), (118, 255, 255)), ((117, 173, 0), (126, 255, 140))],
    "red": [((0, 170, 128), (6, 255, 255)), ((174, 170, 128), (180, 255, 255))],
    "black": [((0, 0, 0), (180, 64, 90)), ((0, 0, 0), (180, 102, 68)), ((0, 0, 0), (180, 255, 42))],
}
# What may be ink where it hangs together with such: thin, streaky or mixed with what is below
_LIKELY = {
    "green": [((33, 28, 0), (100, 255, 255))],
    "blue": [((97, 82, 0), (120, 255, 255)), ((119, 140, 0), (130, 255, 150))],
    "red": [((0, 120, 100), (7, 255, 255)), ((172, 120, 100), (180, 255, 255))],
    "black": [((0, 0, 0), (180, 76, 120)), ((0, 0, 0), (180, 140, 72))],
}
_SURE_SHARE = 0.2  # of a likely piece that must be sure: blood beside a red pen is no ink
_MIN_MM2 = 0.002  # less is a fold's darkest pixels or pigment
_SPARSE = 4  # most slides have no ink or one colour of it: every 16th pixel tells
_COARSE = 4  # pieces are joined on a raster so much coarser
_RIM_UM = 10.0  # a pixel mixed of ink and what lies beside it
_HALO_UM = 40.0  # how far the faint edge of a stroke reaches


def find_ink(hsv: np.ndarray, mpp: float) -> np.ndarray:
    """Return where (H, W) bool there is pen in blue, green, red or black.

    `hsv` is (H, W, 3) uint8 as OpenCV has it, of pixels whose glass is white, at `mpp` µm/px.
    """
    ink = np.zeros(hsv.shape[:2], bool)
    min_px = _MIN_MM2 / (mpp / 1000) ** 2
    sparse = np.ascontiguousarray(hsv[::_SPARSE, ::_SPARSE])
    for colour, ranges in _SURE.items():
        if cv2.countNonZero(_within(sparse, ranges)):
            ink |= _grow(_within(hsv, ranges), _within(hsv, _LIKELY[colour]), min_px)
    return ink


def without_ink(tissue: np.ndarray, ink: np.ndarray, mpp: float) -> np.ndarray:
    """Return bool (H, W) `tissue` less `ink` and its faint edge, but with the tissue that it borders on.

    The edge of a stroke is a ribbon; tissue beside it is not: near ink, only what is thick is kept.
    """
    if not ink.any():
        return tissue
    pixels = ink.view(np.uint8)
    rest = tissue & ~cv2.dilate(pixels, _square(_RIM_UM / mpp)).view(bool)
    halo = cv2.dilate(pixels, _square(_HALO_UM / mpp)).view(bool)
    thick = cv2.morphologyEx(rest.view(np.uint8), cv2.MORPH_OPEN, _square(0.5 * _HALO_UM / mpp)).view(bool)
    return rest & (thick | ~halo)


def _grow(sure: np.ndarray, likely: np.ndarray, min_px: float) -> np.ndarray:
    """Where (H, W) bool it is `sure` or hangs together with such; both uint8, 0 or 255."""
    height, width = sure.shape
    small = (-(-width // _COARSE), -(-height // _COARSE))
    counts = [_count(mask, small) for mask in (sure, cv2.bitwise_or(sure, likely))]
    labels, sizes = label_pieces(counts[1] > 0)  # 16 times fewer places to join, across gaps of a pixel
    sure_px, all_px = (np.bincount(labels.ravel(), c.ravel(), len(sizes)) for c in counts)
    is_ink = sure_px > min_px
    is_ink[0] = False
    whole = is_ink & (sure_px > _SURE_SHARE * all_px)

    if not is_ink.any():
        return np.zeros(sure.shape, bool)
    fate = np.where(whole, 255, np.where(is_ink, 128, 0)).astype(np.uint8)[labels]
    fate = cv2.resize(fate, None, fx=_COARSE, fy=_COARSE, interpolation=cv2.INTER_NEAREST)[:height, :width]
    return ((fate == 255) & (likely > 0)) | ((fate > 0) & (sure > 0))


def _count(mask: np.ndarray, small: tuple[int, int]) -> np.ndarray:
    """How many pixels are set in each coarse place."""
    padded = cv2.copyMakeBorder(
        mask,
        0,
        small[1] * _COARSE - mask.shape[0],
        0,
        small[0] * _COARSE - mask.shape[1],
        cv2.BORDER_CONSTANT,
    )
    share = cv2.resize(padded, small, interpolation=cv2.INTER_AREA).astype(np.float64)
    return np.rint(share * (_COARSE**2 / 255))


def _within(hsv: np.ndarray, ranges: list[tuple]) -> np.ndarray:
    found = cv2.inRange(hsv, *ranges[0])
    for low, high in ranges[1:]:
        found = cv2.bitwise_or(found, cv2.inRange(hsv, low, high))
    return found


def _square(radius_px: float) -> np.ndarray:
    side = 2 * max(1, ceil(radius_px - 0.5)) + 1
    return np.ones((side, side), np.uint8)  # several times faster than a disc
