"""Pen marks: colours and depths that no stain has, and what is left of them at their edges."""

from collections.abc import Sequence
from math import ceil

import cv2
import numpy as np

from .coarse import COARSE, enlarge, share_of
from .pieces import label_pieces

# Hue of 180, saturation and value of 255 (OpenCV): lowest and highest; hues from a higher to a lower go
# through 0. What is surely ink: of five real sections in H&E and one in DAB, next to nothing lies there
_SURE = {
    "green": [((37, 64, 0), (97, 255, 255))],
    "blue": [((97, 122, 0), (118, 255, 255)), ((117, 173, 0), (126, 255, 140))],
    "red": [((174, 170, 128), (6, 255, 255)), ((169, 200, 170), (173, 255, 255))],  # a bluish one is bright
    "black": [((0, 0, 0), (180, 64, 90)), ((0, 0, 0), (180, 102, 68)), ((0, 0, 0), (180, 255, 42))],
}
# What may be ink where it hangs together with such: thin, streaky or mixed with what is below
_LIKELY = {
    "green": [((33, 28, 0), (100, 255, 255))],
    "blue": [((97, 82, 0), (120, 255, 255)), ((119, 140, 0), (130, 255, 150))],
    "red": [((172, 120, 100), (7, 255, 255)), ((168, 170, 150), (171, 255, 255))],
    "black": [((0, 0, 0), (180, 76, 120)), ((0, 0, 0), (180, 140, 72))],
}
_SURE_SHARE = 0.2  # of a likely piece that must be sure: blood beside a red pen is no ink
_MIN_MM2 = 0.002  # less is a fold's darkest pixels or pigment
_SPARSE = 4  # most slides have no ink or one colour of it: every 16th pixel tells
_RIM_UM = 10.0  # a pixel mixed of ink and what lies beside it
_HALO_UM = 40.0  # how far the faint edge of a stroke reaches


def find_ink(planes: Sequence[np.ndarray], mpp: float) -> np.ndarray:
    """Return where (H, W) bool there is pen in blue, green, red or black.

    `planes` are hue, saturation and value as OpenCV has them, (H, W) uint8 each, of pixels whose glass is
    white, at `mpp` µm/px.
    """
    ink = np.zeros(planes[0].shape, np.uint8)
    min_px = _MIN_MM2 / (mpp / 1000) ** 2
    sparse = _ranges_of([plane[::_SPARSE, ::_SPARSE] for plane in planes], _SURE)
    colours = [colour for colour in _SURE if (sparse & _bits(_SURE, colour)).any()]
    if colours:
        sure, likely = _ranges_of(planes, _SURE), _ranges_of(planes, _LIKELY)
        for colour in colours:
            ink |= _grow(sure & _bits(_SURE, colour), likely & _bits(_LIKELY, colour), min_px)
    return ink.view(bool)


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
    """Where (H, W) uint8, 0 or 1, it is `sure` or hangs together with such; both uint8, 0 or more."""
    any_share = share_of(sure | likely)
    labels, sizes = label_pieces(any_share > 0)  # 16 times fewer places to join, across gaps of a pixel
    sure_px, all_px = (
        np.bincount(labels.ravel(), share.ravel(), len(sizes)) * COARSE**2
        for share in (share_of(sure), any_share)
    )
    is_ink = sure_px > min_px
    is_ink[0] = False
    if not is_ink.any():
        return np.zeros(sure.shape, np.uint8)
    is_whole = is_ink & (sure_px > _SURE_SHARE * all_px)
    taken = enlarge(np.where(is_whole, 3, is_ink).astype(np.uint8)[labels], sure.shape)
    offered = (sure > 0) | ((likely > 0).view(np.uint8) << 1)
    return ((taken & offered) > 0).view(np.uint8)


def _ranges_of(planes: Sequence[np.ndarray], colours: dict[str, list[tuple]]) -> np.ndarray:
    """Which of all ranges each pixel of three planes is in, a bit each: (H, W) uint8.

    Eight ranges are looked up as fast as one.
    """
    levels = np.arange(256)[:, None]
    tables = np.zeros((256, 3), np.uint8)
    for number, (low, high) in enumerate(r for ranges in colours.values() for r in ranges):
        from_low, to_high = levels >= low, levels <= high
        inside = np.where(np.less(low, high), from_low & to_high, from_low | to_high)
        tables |= inside.astype(np.uint8) << number
    found = cv2.LUT(planes[0], tables[:, 0].copy())
    for plane, table in zip(planes[1:], tables.T[1:], strict=True):
        cv2.bitwise_and(found, cv2.LUT(plane, table.copy()), dst=found)
    return found


def _bits(colours: dict[str, list[tuple]], colour: str) -> np.uint8:
    """The bits of `_ranges_of` that mean one colour."""
    names = [name for name, ranges in colours.items() for _ in ranges]
    return np.uint8(sum(1 << number for number, name in enumerate(names) if name == colour))


def _square(radius_px: float) -> np.ndarray:
    side = 2 * max(1, ceil(radius_px - 0.5)) + 1
    return np.ones((side, side), np.uint8)  # several times faster than a disc
