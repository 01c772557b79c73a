"""Patches: the pixels at the tiles of a grid, in the grid's order."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from .fresh_memory import empty_pixels
from .grid import TileGrid
from .slide import Slide

_SIZE_ERROR_PX = 0.25  # of a patch, that rounding to whole scaled pixels may cost
_REGION_BYTES = 64 << 20  # of regions that are held before they are resized


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
    side = grid.config.tile_px
    scale = _scale(slide, grid)
    read_px = round(grid.read_px / scale)
    part = max(1, min(batch, _REGION_BYTES // (read_px * read_px * 3)))
    regions = np.empty((part if read_px != side else 0, read_px, read_px, 3), np.uint8)
    slide.expect(grid.coords[:batch], grid.level, (read_px, read_px), scale=scale)
    for start in range(0, len(grid), batch):
        coords = grid.coords[start : start + batch]
        ahead = grid.coords[start + batch : start + 2 * batch]
        slide.expect(ahead, grid.level, (read_px, read_px), scale=scale)
        pixels = empty_pixels((len(coords), side, side, 3))
        unreadable = np.zeros(len(coords), bool)
        for first in range(0, len(coords), part):
            rows = slice(first, min(first + part, len(coords)))
            into = pixels[rows] if read_px == side else regions[: rows.stop - first]
            unreadable[rows] = slide.read_batch(coords[rows], grid.level, into, scale=scale)
            if read_px != side:
                _resize(into, pixels[rows], unreadable[rows])
        pixels[unreadable] = 255
        yield Patches(start, pixels, unreadable)


def _scale(slide: Slide, grid: TileGrid) -> int:
    """How much the decoder may leave out: patches stay as fine as they are wanted, and as large."""
    side = grid.config.tile_px
    if grid.config.exact_pixels:
        return 1

    def fits(scale: int) -> bool:
        size = round(grid.read_px / scale)
        return size >= side and abs(size * scale - grid.read_px) * side <= _SIZE_ERROR_PX * grid.read_px

    return max(s for s in slide.scales if s == 1 or fits(s))


def _resize(regions: np.ndarray, pixels: np.ndarray, unreadable: np.ndarray) -> None:
    # area averaging is the antialiasing
    way = cv2.INTER_AREA if regions.shape[1] > pixels.shape[1] else cv2.INTER_CUBIC
    for region, patch, is_lost in zip(regions, pixels, unreadable, strict=True):
        if not is_lost:
            cv2.resize(region, patch.shape[1::-1], dst=patch, interpolation=way)
