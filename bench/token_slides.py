"""Slides of the cohort that `crc_slides.py` has drawn with the tokens of their tiles, and their truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from features import load_beside
from tiling import TileGrid, covered_share, exact_corners, load_grid, paint, side_level0_px, smooth

ENCODER = "dinov2-vits14"


class Slide:
    """Features (N, D) of tiles, their tokens (N, S, S, D), and the truth of these, bool (N, S, S).

    `is_border` bool (N,) is where some tokens of a tile are tumour and some are not.
    """

    def __init__(self, name: str, cohort: Path, run: Path, features: np.ndarray) -> None:
        self.tiles = features.astype(np.float32)
        self.tokens = load_beside(run / "features" / ENCODER / f"{name}.h5", "tokens").astype(np.float32)
        if len(self.tokens) != len(features):
            raise SystemExit(f"{name}: the two runs are of other tiles")
        self.means = self.tokens.mean((1, 2))
        self.places = cut(load_grid(run / "tiles" / f"{name}.h5"), self.tokens.shape[1])
        mask = np.asarray(Image.open(cohort / "truth" / f"{name}.png").convert("L")) > 127
        self.truth = covered_share(self.places, mask).reshape(self.tokens.shape[:3]) >= 0.5
        self.is_border = self.truth.any((1, 2)) & ~self.truth.all((1, 2))

    def smoothed(self, score: np.ndarray, um: float) -> np.ndarray:
        """Return scores (N, S, S) as a heatmap shows them."""
        side = side_level0_px(self.places)
        shown = smooth(paint(self.places, score.ravel(), px_level0=side), um / self.places.mpp)
        columns, rows = np.rint(exact_corners(self.places) / side).astype(int).T
        return shown.values[rows, columns].reshape(score.shape)


def cut(grid: TileGrid, side: int) -> TileGrid:
    """Return a grid of each tile's `side` by `side` parts, row by row."""
    steps = np.arange(side) * side_level0_px(grid) / side
    corners = exact_corners(grid)[:, None, None] + np.stack(np.meshgrid(steps, steps), axis=-1)
    config = replace(grid.config, tile_mpp=grid.config.tile_mpp / side)
    return replace(grid, coords=np.rint(corners.reshape(-1, 2)).astype(np.int64), config=config)
