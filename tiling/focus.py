"""Where tissue is out of focus, and how sharp it is."""

from dataclasses import dataclass

import cv2
import numpy as np

from .background import brightness
from .coarse import COARSE, enlarge, share_of, shrink
from .pieces import drop_small

_INSIDE = 0.98  # share of tissue around a place from which on no outline passes for texture
_STRIP = 32 * COARSE  # rows of the thumbnail that are worked on at a time
_WINDOW_UM = 160.0  # texture is judged over such a neighbourhood
_MIN_MM2 = 0.1  # smaller areas are left alone: smooth, not blurred
_SHARP_SHARE = 75  # percentile of the slide's own texture that counts as sharp
_LOST = 0.28  # blurred areas keep less than this of sharp tissue's texture; fat and pale tissue keep more
_FINE = 0.45  # and of what texture they have, less is fine than here
_ANY = 0.03  # no sharp tissue has less texture
_FEATURELESS = 0.1  # with so little left, there is only noise to call fine


@dataclass(frozen=True)
class Texture:
    """Float32 (h, w) maps at a quarter of the thumbnail's size, each summed up over a window.

    `strength` is the spread of optical density from pixel to pixel over its mean: 0.05 to 0.3 in sharp
    tissue at 8 µm/px, a tenth of it out of focus. `fineness` is that spread over the same on a scale 4
    times coarser. `cover` is the share of the window that is tissue.
    """

    strength: np.ndarray
    fineness: np.ndarray
    cover: np.ndarray

    def sharpness(self, tissue: np.ndarray) -> np.ndarray:
        """Strengths (N,) inside `tissue` (H, W) bool, where no outline passes for texture."""
        inside = tissue[::COARSE, ::COARSE]
        return self.strength[inside & (self.cover > _INSIDE)]


def measure_texture(thumbnail: np.ndarray, tissue: np.ndarray, mpp: float, *, dark: bool = False) -> Texture:
    """Measure how finely `tissue` (H, W) bool is drawn; on a `dark` background by its brightness."""
    side = 2 * round(_WINDOW_UM / mpp / COARSE / 2) + 1

    def around(image: np.ndarray) -> np.ndarray:
        return cv2.blur(image, (side, side), borderType=cv2.BORDER_REFLECT)

    fine, coarse = _sum_up(thumbnail, tissue, dark=dark)
    share = share_of(tissue)
    rough = cv2.filter2D(coarse, -1, _DETAIL)
    area = np.maximum(around(share), 1e-3)
    spread = np.sqrt(np.maximum(around(fine), 0) / area)
    mean = around(coarse * share) / area
    wide = np.sqrt(np.maximum(around(rough * rough * share), 0) / area)
    return Texture(spread / np.maximum(mean, 0.02), spread / np.maximum(wide, 1e-4), area)


def _sum_up(thumbnail: np.ndarray, tissue: np.ndarray, *, dark: bool) -> tuple[np.ndarray, np.ndarray]:
    """Float32 maps (h, w): the detail's power in tissue, and the density."""
    fine, coarse = [], []
    for top in range(0, len(tissue), _STRIP):  # what fits in the processor's cache is several times faster
        above, here = min(top, 1), np.s_[top : top + _STRIP]
        pixels = thumbnail[top - above : top + _STRIP + 1]
        if dark:
            density = brightness(pixels).astype(np.float32) / 255
        else:
            density = cv2.LUT(cv2.extractChannel(pixels, 1), _DENSITY)
        detail = cv2.filter2D(density, -1, _DETAIL)[above : above + _STRIP]
        fine.append(shrink(detail * detail * tissue[here]))
        coarse.append(shrink(density[above : above + _STRIP]))
    return np.concatenate(fine), np.concatenate(coarse)


def find_blur(texture: Texture, tissue: np.ndarray, mpp: float) -> np.ndarray:
    """Return where (H, W) bool `tissue` is out of focus over a large area, judged by the slide's sharp parts.

    A slide that is blurred all over has no sharp part and keeps its tissue; its quality tells.
    """
    nowhere = np.zeros(tissue.shape, bool)
    inside = texture.sharpness(tissue)
    sharp = np.percentile(inside, _SHARP_SHARE) if inside.size else 0.0
    if sharp < _ANY:
        return nowhere
    soft = (texture.fineness < _FINE) | (texture.strength < _FEATURELESS * sharp)
    lost = soft & (texture.strength < _LOST * sharp) & (texture.cover > 0.01)
    lost = drop_small(lost, _MIN_MM2 / (mpp * COARSE / 1000) ** 2)
    if not lost.any():
        return nowhere
    # a window that only touches sharp tissue is sharp: the border lies nearly half a window further out
    side = 2 * round(0.35 * _WINDOW_UM / mpp / COARSE) + 1
    lost = cv2.dilate(lost.view(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return enlarge(lost, tissue.shape).view(bool) & tissue


_DENSITY = -np.log(np.maximum(np.arange(256), 8) / 255).astype(np.float32)
# what a pixel has over its surroundings: the picture less itself blurred by 0.8 px
_DETAIL = np.outer(*2 * [cv2.getGaussianKernel(3, 0.8, cv2.CV_32F)]) * -1
_DETAIL[1, 1] += 1
