"""Facts about a slide's tissue that tell whether it is worth working on."""

from dataclasses import dataclass

import cv2
import numpy as np

from .background import find_padding, glass_colour, hsv_planes, tell_background
from .focus import Texture, measure_texture
from .ink import find_ink


@dataclass(frozen=True, kw_only=True)
class TissueQuality:
    """What a glance at the thumbnail tells.

    `tissue_mm2` is the area of tissue, `pen_fraction` the share of the slide that is ink, `focus` the
    median texture of the tissue (spread of optical density from pixel to pixel over its mean; at
    8 µm/px 0.05 to 0.3 in sharp slides, below 0.03 out of focus), `stain_strength` the tissue's mean
    optical density (on a dark background its mean brightness, 0 to 1), `background` "bright" or "dark".
    """

    tissue_mm2: float
    pen_fraction: float
    focus: float
    stain_strength: float
    background: str


def measure_quality(
    mask: np.ndarray,
    thumbnail: np.ndarray,
    mpp: float,
    *,
    background: str = "auto",
    ink: np.ndarray | None = None,
    texture: Texture | None = None,
) -> TissueQuality:
    """Measure the tissue `mask` (H, W) bool on its `thumbnail` (H, W, 3) uint8 of `mpp` µm/px.

    `ink` (H, W) bool is sought, and `texture` measured, if it is not given.
    """
    if background == "auto":
        background = tell_background(thumbnail)
    if ink is None:
        ink = np.zeros(mask.shape, bool)
        if background == "bright":
            ink = find_ink(hsv_planes(thumbnail), mpp) & ~find_padding(thumbnail)
    if texture is None:
        texture = measure_texture(thumbnail, mask, mpp, dark=background == "dark")
    sharpness = texture.sharpness(mask)
    return TissueQuality(
        tissue_mm2=float(np.count_nonzero(mask) * (mpp / 1000) ** 2),
        pen_fraction=float(np.count_nonzero(ink) / ink.size),
        focus=float(np.median(sharpness)) if sharpness.size else 0.0,
        stain_strength=_strength(mask, thumbnail, background),
        background=background,
    )


def _strength(mask: np.ndarray, thumbnail: np.ndarray, background: str) -> float:
    """Mean over the tissue and the channels, from histograms: no pixel is taken a logarithm of."""
    if not mask.any():
        return 0.0
    counts = np.stack(
        [cv2.calcHist([thumbnail], [c], mask.view(np.uint8), [256], [0, 256]).ravel() for c in range(3)],
        axis=1,
    )
    levels = np.arange(256)[:, None]
    if background == "dark":
        return float(((counts * levels).sum(axis=0) / counts.sum(axis=0)).max() / 255)
    density = np.maximum(-np.log10(np.maximum(levels, 1) / glass_colour(thumbnail)), 0)
    return float((counts * density).sum() / counts.sum())
