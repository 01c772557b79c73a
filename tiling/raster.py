"""Heatmaps of one slide as one raster that spans it exactly, and the smaller levels of that."""

from collections.abc import Mapping

import cv2
import numpy as np

from .heatmap import Heatmap

_SMALL_PX = 256  # a level no larger gets no further one


def pyramid_of(heatmaps: Mapping[str, Heatmap], slide_id: str) -> tuple[list[np.ndarray], tuple[int, int]]:
    """Return levels float32 (C, H, W), the first with all pixels, and the slide's size in level-0 pixels.

    Each level spans the whole slide and no more. A further one is half as large, the mean of what is scored.

    Raises:
        ValueError: there is no heatmap, or they are of different rasters.
    """
    rasters = {(h.values.shape, h.size_level0_px) for h in heatmaps.values()}
    if len(rasters) != 1:
        raise ValueError(
            f"{slide_id}: heatmaps are of {len(rasters)} rasters, wanted one or more of the same"
        )
    (((height, width), size_px),) = rasters
    levels = [np.stack([h.resampled((width, height)) for h in heatmaps.values()])]
    while max(levels[-1].shape[1:]) > _SMALL_PX:
        levels.append(np.stack([_half(values) for values in levels[-1]]))
    return levels, size_px


def _half(values: np.ndarray) -> np.ndarray:
    """Return the mean of what is scored under each pixel twice as large, NaN where nothing is."""
    height, width = values.shape
    size = (max(1, round(width / 2)), max(1, round(height / 2)))
    is_scored = ~np.isnan(values)
    total, share = (
        cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        for part in (np.where(is_scored, values, 0), is_scored.astype(np.float32))
    )
    out = np.full_like(total, np.nan)
    np.divide(total, share, out=out, where=share > 0)
    return np.clip(out, 0, 1)  # of rounding
