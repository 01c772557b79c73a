"""What a slide's page shows over its pixels: scores painted on a raster, tiles, tissue, facts."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np

from mil.run_folder import Run
from mil.scores import Scores, load_scores
from tiling import FormatError, TileGrid, exact_corners, load_grid, paint, side_level0_px

_LONGEST_CELLS = 4096  # of a raster along the slide's longer side
_LONGEST_LOOSE_CELLS = 2048  # of one whose cells are no whole parts of tiles, which is painted finer
_WHOLE = 1e-6


class NotThere(LookupError):
    """What is asked for is not there."""


@dataclass(frozen=True)
class SlideData:
    """The grid of a slide, and its scores where a model has seen it."""

    grid: TileGrid
    scores: Scores | None

    @classmethod
    def load(cls, run: Run, slide_id: str) -> "SlideData":
        """Read what the run has of a slide.

        Raises:
            FormatError: it has no grid, the scores are of other tiles, or the id leads out of the run.
        """
        if PurePath(slide_id).is_absolute() or ".." in PurePath(slide_id).parts:
            raise FormatError(
                f"{slide_id}: its files would lie outside the run", hint="correct the column slide_id"
            )
        grid = load_grid(run.grid_path(slide_id))
        path = run.scores_path(slide_id)
        return cls(grid, load_scores(path, grid=grid) if path.is_file() else None)

    @cached_property
    def cell_px(self) -> float:
        """Level-0 pixels along a raster cell: the most of which tiles are whole numbers, if `is_exact`."""
        longest = max(self.grid.size_level0_px)
        return self._common_px if self.is_exact else max(self.side_px / 32, longest / _LONGEST_LOOSE_CELLS)

    @cached_property
    def is_exact(self) -> bool:
        """Whether tiles begin and end where cells do; not where another tool has placed them anyhow."""
        places = exact_corners(self.grid) / self._common_px
        is_whole = bool((np.abs(places - np.rint(places)) < _WHOLE).all())
        return is_whole and max(self.grid.size_level0_px) / self._common_px <= _LONGEST_CELLS

    @property
    def side_px(self) -> float:
        """The exact side of a tile in level-0 pixels."""
        return side_level0_px(self.grid)

    @property
    def _common_px(self) -> float:
        config = self.grid.config
        return self.side_px * math.gcd(config.tile_px, config.overlap_px) / config.tile_px

    def raster(self, number: int) -> np.ndarray:
        """Return the scores of a class as they lie on the slide, float32 (H, W), NaN where none is.

        One class more than there are is all but the first together, for which the threshold is.

        Raises:
            NotThere: there are no scores, or no such class.
        """
        if self.scores is None or number > len(self.scores.classes):
            raise NotThere(f"{self.grid.slide_id}: no scores of class {number}")
        probability = self.scores.probability
        together = number == len(self.scores.classes)
        painted = probability[:, 1:].sum(axis=1) if together else probability[:, number]
        return paint(self.grid, painted, px_level0=self.cell_px).values

    def hot(self, number: int) -> np.ndarray:
        """Return `raster` of all classes but the first together, NaN where `number` is not the likeliest.

        Where it reaches the threshold is a region of the class. Nothing is of the first class.

        Raises:
            NotThere: as for `raster`.
        """
        n_classes = len(self.scores.classes) if self.scores else 0
        together = self.raster(n_classes)
        if number >= n_classes:
            return together
        if number == 0:
            return np.full_like(together, np.nan)
        own = self.raster(number)
        for other in set(range(1, n_classes)) - {number}:
            is_less = np.less_equal if other < number else np.less  # of two that are the same, the first
            together[is_less(own, self.raster(other))] = np.nan
        return together

    def tiles(self) -> bytes:
        """Return little-endian (x, y) float64 of every tile, then its probabilities float32 (N, C)."""
        corners = exact_corners(self.grid).astype("<f8").tobytes()
        return corners if self.scores is None else corners + self.scores.probability.astype("<f4").tobytes()

    def told(self) -> dict[str, Any]:
        """Return the facts that the page needs to make sense of tiles and rasters."""
        cell = self.cell_px
        width, height = (math.ceil(side / cell - _WHOLE) for side in self.grid.size_level0_px)
        return {
            "size_px": self.grid.size_level0_px,
            "mpp": self.grid.mpp,
            "slide_fingerprint": self.grid.slide_fingerprint,
            "n_tiles": len(self.grid),
            "tile_px": self.side_px,
            "tissue": self.grid.tissue_polygons.get("coordinates", ()),
            "classes": list(self.scores.classes) if self.scores else [],
            "learner": self.scores.learner if self.scores else "",
            "raster": {
                "width": width,
                "height": height,
                "cell_px": cell,
                "is_exact": self.is_exact or self.grid.config.overlap_px > 0,
            },
        }
