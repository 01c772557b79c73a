"""Patches: the pixels at the tiles of a grid, in the grid's order."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from .errors import SlideError
from .grid import TileGrid
from .slide import Slide


@dataclass(frozen=True)
class Patches:
    """Some patches of a grid: uint8 (n, tile_px, tile_px, 3), the first one's row in the grid.

    Where `unreadable`, bool (n,), is true the pixels are white and mean nothing.
    """

    start: int
    pixels: np.ndarray
    unreadable: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        return f"Patches({self.start} to {self.start + len(self)}, {int(self.unreadable.sum())} unreadable)"


def read_patches(slide: Slide, grid: TileGrid, *, batch: int = 64) -> Iterator[Patches]:
    """Yield the grid's patches in order, at most `batch` at a time; unreadable ones are marked."""
    for start in range(0, len(grid), batch):
        coords = grid.coords[start : start + batch]
        side = grid.config.tile_px
        pixels = np.full((len(coords), side, side, 3), 255, np.uint8)
        unreadable = np.zeros(len(coords), bool)
        for row, (x, y) in enumerate(coords.tolist()):
            try:
                pixels[row] = _read_patch(slide, grid, x, y)
            except SlideError:
                unreadable[row] = True
        yield Patches(start, pixels, unreadable)


def _read_patch(slide: Slide, grid: TileGrid, x: int, y: int) -> np.ndarray:
    region = slide.read(x, y, grid.level, (grid.read_px, grid.read_px))
    side = grid.config.tile_px
    if grid.read_px == side:
        return region
    way = cv2.INTER_AREA if grid.read_px > side else cv2.INTER_CUBIC  # area averaging is the antialiasing
    return cv2.resize(region, (side, side), interpolation=way)
