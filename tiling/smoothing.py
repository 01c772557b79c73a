"""A heatmap made smooth over the tissue alone."""

from dataclasses import replace

import cv2
import numpy as np

from .heatmap import Heatmap

_REACH = 3.5  # deviations after which the weight counts as nothing


def smooth(heatmap: Heatmap, deviation_level0_px: float) -> Heatmap:
    """Return the heatmap averaged with Gaussian weights over what is scored.

    Where no tile has a score there is none afterwards either, and it weighs nothing: so a margin keeps
    the level of the tissue beside it, and the mean of a constant is that constant. `deviation_level0_px`
    is the Gaussian's standard deviation in level-0 pixels; 0 changes nothing.
    """
    deviation_px = deviation_level0_px / heatmap.px_level0
    if deviation_px <= 0:
        return heatmap
    is_scored = ~np.isnan(heatmap.values)
    size = (2 * int(np.ceil(_REACH * deviation_px)) + 1,) * 2
    total, weight = (
        cv2.GaussianBlur(part, size, deviation_px, borderType=cv2.BORDER_CONSTANT)
        for part in (np.where(is_scored, heatmap.values, 0).astype(np.float32), is_scored.astype(np.float32))
    )
    values = np.full_like(heatmap.values, np.nan)
    np.divide(total, weight, out=values, where=is_scored, casting="same_kind")
    return replace(heatmap, values=values)
