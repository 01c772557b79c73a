"""What lies behind the tissue: bright glass of some tint, or the dark of a fluorescence slide."""

from collections.abc import Sequence

import cv2
import numpy as np

from .coarse import enlarge, shrink
from .pieces import label_pieces

_DARK = 64  # a pixel's brightest channel, of 255, below which it is dark
_GLASS_VALUE, _GLASS_SATURATION = 180, 26  # of 255: empty glass is at least so bright, at most so coloured
_WHITE = 253  # what scanners write where they scanned nothing is purer than any glass
_PADDING = 20  # and where they write black, compression leaves this much
_PADDING_RUN = 0.5  # share of a side of the slide that padding takes up
_GLASS_SHARE = 0.2  # of what is not dark: only with so much glass is a mostly black slide bright-field
_SAMPLES = 60_000  # pixels that are enough to judge a slide's background by


def tell_background(thumbnail: np.ndarray) -> str:
    """Return "bright" or "dark" for pixels (H, W, 3) uint8.

    A slide that is mostly dark is fluorescence, unless what is not dark shows glass: then its black is
    the scanner's padding.
    """
    pixels = _sample(thumbnail)
    high, low = _range(pixels)
    lit = high >= _DARK
    if lit.mean() > 0.5:
        return "bright"
    glass = (high > _GLASS_VALUE) & (high - low <= _GLASS_SATURATION)
    return "bright" if glass.sum() > max(_GLASS_SHARE * lit.sum(), 1) else "dark"


def hsv_planes(thumbnail: np.ndarray) -> Sequence[np.ndarray]:
    """Return hue of 180, saturation and value of 255, (H, W) uint8 each, of pixels whose glass is made white.

    That takes out whatever tint lamp, camera and glass give it.
    """
    balanced = cv2.transform(thumbnail, np.diag(255 / glass_colour(thumbnail)))
    return cv2.split(cv2.cvtColor(balanced, cv2.COLOR_RGB2HSV, dst=balanced))


def glass_colour(thumbnail: np.ndarray) -> np.ndarray:
    """Return the median colour (3,) of empty glass, 0 to 255; white where there is none."""
    pixels = _sample(thumbnail)
    high, low = _range(pixels)
    glass = (high > _GLASS_VALUE) & (high - low <= _GLASS_SATURATION)
    scanned = glass & (low < _WHITE)
    if scanned.sum() > 0.01 * len(pixels):
        glass = scanned
    elif glass.sum() <= 0.01 * len(pixels):
        return np.full(3, 255.0)
    return np.median(pixels[glass], axis=0)


def find_padding(thumbnail: np.ndarray) -> np.ndarray:
    """Return where (H, W) bool a bright-field slide was not scanned: black along a side."""
    borders = np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]
    if not any((thumbnail[border] <= _PADDING).all(axis=1).mean() > _PADDING_RUN for border in borders):
        return np.zeros(thumbnail.shape[:2], bool)
    black = cv2.inRange(thumbnail, (0, 0, 0), (_PADDING,) * 3)
    labels, sizes = label_pieces(shrink(black) > 127)
    padding = np.zeros(len(sizes), bool)
    for border in borders:  # a pen may cross the border too, but over a short stretch
        padding |= np.bincount(labels[border], minlength=len(sizes)) > _PADDING_RUN * labels[border].size
    padding[0] = False
    wide = cv2.dilate(padding[labels].view(np.uint8), np.ones((3, 3), np.uint8))
    return (cv2.dilate(black, np.ones((3, 3), np.uint8)) > 0) & enlarge(wide, black.shape).view(bool)


def brightness(thumbnail: np.ndarray) -> np.ndarray:
    """Return the brightest channel (H, W) uint8 of pixels (H, W, 3)."""
    red, green, blue = cv2.split(thumbnail)  # numpy's max over so short an axis takes 20 times longer
    return cv2.max(cv2.max(red, green), blue)


def _sample(thumbnail: np.ndarray) -> np.ndarray:
    """Pixels (N, 3) of an even lattice."""
    step = max(1, int(np.sqrt(thumbnail.shape[0] * thumbnail.shape[1] / _SAMPLES)))
    return thumbnail[step // 2 :: step, step // 2 :: step].reshape(-1, 3)


def _range(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest and lowest channel (N,) of pixels (N, 3)."""
    red, green, blue = pixels.T.astype(np.int16)
    return np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
