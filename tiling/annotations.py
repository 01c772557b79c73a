"""Tiles that a person gave a class, by regions drawn in QuPath; and the share of tiles that a mask covers."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from .drawn import DrawnRegion, drawn_regions
from .errors import FormatError
from .grid import TileGrid
from .heatmap import side_level0_px

_CELLS_A_TILE = 8  # along each side: areas are right to about a hundredth of a tile


def annotated_tiles(
    path: Path, grid: TileGrid, class_names: Sequence[str], *, shown_from_px: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Return which tiles lie in drawn regions of which class, by half of their area: bool (N, C).

    The GeoJSON holds polygons in level-0 pixels that QuPath counts from the slide's `shown_from_px`, each
    classified as one of `class_names`.

    Raises:
        FormatError: the file is damaged, holds no region, one outside the slide or of another class.
    """
    cell = max(1.0, side_level0_px(grid) / _CELLS_A_TILE)
    width, height = (math.ceil(side / cell) for side in grid.size_level0_px)
    masks: dict[str, np.ndarray] = {}
    for region in classified_regions(path, class_names):
        mask = masks.setdefault(region.class_name, np.zeros((height, width), bool))
        region.fill(mask, grid.size_level0_px, shown_from_px)
    covered = np.zeros((len(grid), len(class_names)), bool)
    for name, mask in masks.items():
        covered[:, class_names.index(name)] = covered_share(grid, mask) >= 0.5
    return covered


def classified_regions(path: Path, class_names: Sequence[str]) -> list[DrawnRegion]:
    """Return the drawn regions of a GeoJSON, each classified as one of `class_names`.

    Raises:
        FormatError: the file is damaged, holds no region, or one of another class.
    """
    regions = drawn_regions(path)
    for region in regions:
        if region.class_name not in class_names:
            found = f"classified as {region.class_name!r}" if region.class_name else "not classified"
            raise FormatError(
                f"{region.where} is {found}, wanted one of {', '.join(class_names)}",
                hint="set its class in QuPath and export again, or delete it there",
            )
    return regions


def covered_share(grid: TileGrid, mask: np.ndarray) -> np.ndarray:
    """Return the share of each tile that is true in a bool (H, W) over the whole slide: float64 (N,)."""
    height, width = mask.shape
    integral = np.zeros((height + 1, width + 1))
    integral[1:, 1:] = mask.cumsum(0).cumsum(1)
    scale = np.array([width / grid.size_level0_px[0], height / grid.size_level0_px[1]])
    side = side_level0_px(grid)
    low, high = grid.coords * scale, (grid.coords + side) * scale

    def at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return map_coordinates(integral, [y, x], order=1, mode="nearest")

    area = at(*high.T) - at(low[:, 0], high[:, 1]) - at(high[:, 0], low[:, 1]) + at(*low.T)
    return area / (side * side * scale.prod())
