"""Regions of a slide at or above a threshold: polygons with holes, and what is measured in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage

from .errors import ConfigError
from .grid import TileGrid
from .heatmap import Heatmap, exact_corners, side_level0_px
from .outlines import outlines

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_MOST_TOLERANCE = 0.25  # of a tile's side
_PRECISION_PX = 0.01  # of level-0 pixels, to which corners are rounded


@dataclass(frozen=True)
class HotRegion:
    """A connected region of one class; places are in level-0 pixels.

    `shape` is a shapely Polygon with holes (a MultiPolygon where simplifying cut it), `area_mm2` its area.
    `mean_probability` and `max_probability` are those of the classes together that the threshold is for,
    over the heatmap's pixels before simplifying, `class_probability` the mean of each class there.
    `n_tiles` is how many tiles have their centre in it.
    """

    class_name: str
    class_number: int
    shape: "BaseGeometry"
    area_mm2: float
    mean_probability: float
    max_probability: float
    class_probability: Mapping[str, float]
    n_tiles: int

    def __repr__(self) -> str:
        return f"HotRegion({self.class_name!r}, {self.area_mm2:.3g} mm², p up to {self.max_probability:.3g})"


def hot_regions(
    grid: TileGrid,
    heatmaps: Mapping[str, Heatmap],
    together: Heatmap,
    threshold: float,
    *,
    tolerance_um: float | None = None,
) -> list[HotRegion]:
    """Return where the classes together reach the threshold, by the likeliest of them, the hottest first.

    Pixels that share an edge are of one region. Its border runs along the heatmap's pixels, then corners
    are left out as long as it moves by no more than `tolerance_um`. Tiles tell a border to within 0.71 of
    their side, half of their diagonal; with a quarter more it is within one tile of the truth.

    Args:
        grid: the tiles that were painted.
        heatmaps: by name of the class; the first has number 1.
        together: of the same raster, the sum over the classes.
        threshold: the probability from which a place counts.
        tolerance_um: 0 keeps every corner; a quarter of a tile's side if not given.

    Raises:
        ConfigError: the tolerance is none that `region_tolerance_um` lets pass.
    """
    tolerance_px = region_tolerance_um(grid, tolerance_um) / grid.mpp
    values = np.stack([h.values for h in heatmaps.values()])
    is_hot = together.values >= threshold  # NaN is not
    likeliest = np.where(is_hot, np.where(np.isnan(values), -1, values).argmax(axis=0), -1)
    found: list[HotRegion] = []
    for number, name in enumerate(heatmaps):
        measured = _Measured(grid, likeliest == number, together, dict(zip(heatmaps, values, strict=True)))
        found += [
            measured.region(rings, name, number + 1, tolerance_px) for rings in outlines(likeliest == number)
        ]
    return sorted(found, key=lambda region: (-region.max_probability, -region.area_mm2))


def region_tolerance_um(grid: TileGrid, asked_um: float | None = None) -> float:
    """Return by how many µm a region's border may move, a quarter of a tile's side if not asked for.

    Raises:
        ConfigError: it is negative or more than that.
    """
    most_um = grid.config.tile_px * grid.config.tile_mpp * _MOST_TOLERANCE
    if asked_um is None:
        return most_um
    if not 0 <= asked_um <= most_um:
        raise ConfigError(
            f"{grid.slide_id}: the tolerance of regions is {asked_um:g} µm, wanted up to a quarter of a tile",
            hint=f"give --region-tolerance-um 0 to {most_um:g}",
        )
    return asked_um


class _Measured:
    """What is measured in each piece of a mask over the raster of a heatmap."""

    def __init__(
        self, grid: TileGrid, mask: np.ndarray, together: Heatmap, values: dict[str, np.ndarray]
    ) -> None:
        self._px, self._mpp, self._size_px = together.px_level0, grid.mpp, grid.size_level0_px
        n_labels, self._labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
        every = np.arange(n_labels)
        self._mean = {k: np.asarray(ndimage.mean(of, self._labels, every)) for k, of in values.items()}
        self._mean_together = np.asarray(ndimage.mean(together.values, self._labels, every))
        self._max = np.asarray(ndimage.maximum(together.values, self._labels, every))
        middles = exact_corners(grid) + side_level0_px(grid) / 2
        # tiles of other grids may hang over any border
        last = np.array(mask.shape[::-1]) - 1
        columns, rows = np.clip(middles // self._px, 0, last).astype(np.int64).T
        self._n_tiles = np.bincount(self._labels[rows, columns], minlength=n_labels)

    def region(self, rings: list[np.ndarray], name: str, number: int, tolerance_px: float) -> HotRegion:
        import shapely

        placed = [np.minimum(ring * self._px, self._size_px) for ring in rings]
        exact = shapely.Polygon(placed[0], placed[1:])
        shape = shapely.set_precision(exact.simplify(tolerance_px), _PRECISION_PX)
        # the pixel at the leftmost of the uppermost corners lies inside
        x, y = min(rings[0].tolist(), key=lambda corner: corner[::-1])
        label = int(self._labels[y, x])
        return HotRegion(
            class_name=name,
            class_number=number,
            shape=shape,
            area_mm2=shape.area * self._mpp**2 / 1e6,
            mean_probability=float(self._mean_together[label]),
            max_probability=float(self._max[label]),
            class_probability={of: float(mean[label]) for of, mean in self._mean.items()},
            n_tiles=int(self._n_tiles[label]),
        )
