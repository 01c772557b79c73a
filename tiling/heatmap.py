"""Scores painted back on the slide: a coarse raster of them, NaN where there is no tile."""

from dataclasses import dataclass

import cv2
import numpy as np

from .grid import TileGrid

_LONGEST_PX = 3072  # of a heatmap whose scale is not given
_FINEST = 32  # heatmap pixels along a tile, at most
_TIE_PX = 1e-6  # a centre this near an edge lies on it, whatever the rounding of floats


@dataclass(frozen=True, eq=False)
class Heatmap:
    """One score per pixel of a raster over the whole slide.

    `values` float32 (H, W), NaN where no tile or no score is; the pixel (row, column) stands for the
    square of level-0 pixels from (column, row) × `px_level0` to (column + 1, row + 1) × `px_level0`,
    so the last row and column may reach beyond the slide of `size_level0_px` (width, height).
    """

    values: np.ndarray
    px_level0: float
    size_level0_px: tuple[int, int]

    def resampled(self, size_px: tuple[int, int]) -> np.ndarray:
        """Return the values under the pixel centres of a picture of the whole slide.

        `size_px` is the picture's (width, height); float32 (height, width), NaN where no tile is.
        """
        columns, rows = self.cells_under(size_px)
        return self.values[np.ix_(rows, columns)]

    def cells_under(self, size_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the column under each column of such a picture, the row under each row, both int64."""
        height, width = self.values.shape
        columns = _cells_under(size_px[0], self.size_level0_px[0] / self.px_level0, width)
        rows = _cells_under(size_px[1], self.size_level0_px[1] / self.px_level0, height)
        return columns, rows

    def __repr__(self) -> str:
        height, width = self.values.shape
        covered = 1 - np.isnan(self.values).mean()
        scale = f"{self.px_level0:g} level-0 px each"
        return f"Heatmap({width} × {height} px of {scale}, {covered:.0%} covered)"


def paint(grid: TileGrid, scores: np.ndarray, *, px_level0: float | None = None) -> Heatmap:
    """Paint one score per tile on a raster; the mean of the scores where tiles overlap.

    A tile covers the pixels whose centre lies in its square (its left and top edge included, its
    right and bottom edge not), so tiles that do not overlap share no pixel and leave none between
    them. The squares are exact: see `exact_corners`.

    Args:
        grid: the tiles.
        scores: float (N,), in the grid's order; NaN for a tile that has none.
        px_level0: level-0 pixels along a heatmap pixel. If not given, a tile's side divided by the
            largest of 1, 2, 4, ... 32 that keeps the heatmap within 3,072 px, so that tiles end
            where pixels end.

    Raises:
        ValueError: `scores` are not (N,) or hold an infinity, or `px_level0` is not positive.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(grid),):
        found = f"scores of shape {scores.shape} for {len(grid)} tiles"
        raise ValueError(f"{grid.slide_id}: {found}, wanted one score a tile")
    if np.isinf(scores).any():
        raise ValueError(f"{grid.slide_id}: scores hold an infinity, wanted numbers or NaN")
    px = _default_px(grid) if px_level0 is None else float(px_level0)
    if not 0 < px < np.inf:
        raise ValueError(f"{grid.slide_id}: px_level0 is {px:g}, wanted a positive number")
    width, height = (int(np.ceil(side / px - _TIE_PX)) for side in grid.size_level0_px)
    values = np.full((height, width), np.nan, dtype=np.float32)
    has_score = ~np.isnan(scores)
    if has_score.any():
        corners = exact_corners(grid)[has_score]
        boxes = _pixel_boxes(corners, side_level0_px(grid), px, (width, height))
        _fill_mean(values, boxes, scores[has_score])
    return Heatmap(values, px, grid.size_level0_px)


def side_level0_px(grid: TileGrid) -> float:
    """Return the exact side of a tile in level-0 pixels, which `tile_px_level0` rounds."""
    return grid.config.tile_px * grid.config.tile_mpp / grid.mpp


def exact_corners(grid: TileGrid) -> np.ndarray:
    """Return the tiles' top-left corners in level-0 pixels before rounding, float64 (N, 2).

    The corners of a grid are multiples of its stride, rounded. Unrounded, neighbours meet exactly;
    rounded, they share or leave up to a pixel, which would be a seam in the heatmap. Corners that
    are no such multiples (a grid made elsewhere) come back as they are.
    """
    stride = (grid.config.tile_px - grid.config.overlap_px) * grid.config.tile_mpp / grid.mpp
    exact = np.round(grid.coords / stride) * stride
    is_lattice = bool((np.abs(exact - grid.coords) <= 0.5 + _TIE_PX).all())
    return exact if is_lattice else grid.coords.astype(np.float64)


def _default_px(grid: TileGrid) -> float:
    side, share = side_level0_px(grid), _FINEST
    while share > 1 and max(grid.size_level0_px) / side * share > _LONGEST_PX:
        share //= 2
    return side / share


def _pixel_boxes(
    corners: np.ndarray, side: float, px: float, size_px: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    """Return left, top, right and bottom (excluded) of the pixels whose centre each tile holds."""
    first = np.ceil(corners / px - 0.5 - _TIE_PX).astype(np.int64)
    end = np.ceil((corners + side) / px - 0.5 - _TIE_PX).astype(np.int64)
    first, end = (np.clip(edge, 0, size_px) for edge in (first, end))
    return first[:, 0], first[:, 1], end[:, 0], end[:, 1]


def _fill_mean(values: np.ndarray, boxes: tuple[np.ndarray, ...], scores: np.ndarray) -> None:
    """Fill `values` with the mean score of the boxes over each pixel."""
    left, top, right, bottom = boxes
    x0, y0, x1, y1 = int(left.min()), int(top.min()), int(right.max()), int(bottom.max())
    part = values[y0:y1, x0:x1]  # running sums only where there are tiles
    local = (left - x0, top - y0, right - x0, bottom - y0)
    total = _sum_over(local, scores, part.shape)
    count = np.rint(_sum_over(local, np.ones(len(scores)), part.shape))
    np.divide(total, count, out=part, where=count > 0, casting="same_kind")
    np.clip(part, float(scores.min()), float(scores.max()), out=part)  # running sums leave some 1e-15


def _sum_over(boxes: tuple[np.ndarray, ...], amounts: np.ndarray, shape: tuple) -> np.ndarray:
    """Return at each pixel the sum of the amounts of the boxes over it, float64 of `shape`.

    Each box adds its amount at two corners and takes it off at the other two; the running sum along
    both axes is then the answer, in a time that does not grow with the size of the boxes.
    """
    left, top, right, bottom = boxes
    steps = np.zeros((shape[0] + 1, shape[1] + 1))
    for y, x, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(steps, (y, x), sign * amounts)
    return cv2.integral(steps, sdepth=cv2.CV_64F)[1:-1, 1:-1]


def _cells_under(n_px: int, extent: float, n_cells: int) -> np.ndarray:
    """Return which of `n_cells` hold the centres of `n_px` pixels spread over `extent` cells."""
    centres = (np.arange(n_px) + 0.5) * (extent / n_px)
    return np.minimum(centres.astype(np.int64), n_cells - 1)
