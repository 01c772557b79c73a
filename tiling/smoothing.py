"""A heatmap made smooth over the tissue alone."""

from dataclasses import replace

import cv2
import numpy as np

from .heatmap import Heatmap

_REACH = 3.5  # deviations after which the weight counts as nothing
_MOST_PX = 8  # of a deviation; for a wider one the raster is made coarser, which its blur would hide


def smooth(heatmap: Heatmap, deviation_level0_px: float) -> Heatmap:
    """Return the heatmap averaged with Gaussian weights over what is scored.

    Where no tile has a score there is none afterwards either, and it weighs nothing: so a margin keeps
    the level of the tissue beside it, and the mean of a constant is that constant. `deviation_level0_px`
    is the Gaussian's standard deviation in level-0 pixels; 0 changes nothing.
    """
    deviation_px = deviation_level0_px / heatmap.px_level0
    is_scored = ~np.isnan(heatmap.values)
    if deviation_px <= 0 or not is_scored.any():
        return heatmap
    total, weight = (
        _blurred(part, deviation_px)
        for part in (np.where(is_scored, heatmap.values, 0).astype(np.float32), is_scored.astype(np.float32))
    )
    values = np.full_like(heatmap.values, np.nan)
    np.divide(total, weight, out=values, where=is_scored, casting="same_kind")
    lowest, highest = float(np.nanmin(heatmap.values)), float(np.nanmax(heatmap.values))
    return replace(heatmap, values=np.clip(values, lowest, highest))  # of rounding


def _blurred(raster: np.ndarray, deviation_px: float) -> np.ndarray:
    """A raster under a Gaussian, 0 beyond its border."""
    shrink = int(np.ceil(deviation_px / _MOST_PX))
    height, width = raster.shape
    padded = cv2.copyMakeBorder(raster, 0, -height % shrink, 0, -width % shrink, cv2.BORDER_CONSTANT)
    whole = padded.shape[::-1]
    small = cv2.resize(padded, [side // shrink for side in whole], interpolation=cv2.INTER_AREA)
    size = (2 * int(np.ceil(_REACH * deviation_px / shrink)) + 1,) * 2
    blurred = cv2.GaussianBlur(small, size, deviation_px / shrink, borderType=cv2.BORDER_CONSTANT)
    return cv2.resize(blurred, whole, interpolation=cv2.INTER_LINEAR)[:height, :width]
