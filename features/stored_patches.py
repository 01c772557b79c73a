"""Patches kept beside their features: a JPEG a tile in the feature bag."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import simplejpeg

from tiling import FormatError, Patches, Slide, TileGrid, open_checked

_QUALITY = 90


class PatchStore:
    """The dataset `patches` of an open feature bag, filled batch by batch; unreadable tiles stay empty."""

    def __init__(self, file: h5py.File, slide: Slide, grid: TileGrid) -> None:
        self._slide, self._grid = slide, grid
        self._rows = file.create_dataset("patches", (len(grid),), h5py.vlen_dtype(np.uint8))

    def add(self, patches: Patches) -> None:
        """Store a batch: the slide's own compressed tiles where they are just the patches, else recoded."""
        for k, (pixels, is_lost) in enumerate(zip(patches.pixels, patches.unreadable, strict=True)):
            if is_lost:
                continue
            row = patches.start + k
            stream = self._own_bytes(row)
            if stream is None:
                stream = simplejpeg.encode_jpeg(
                    np.ascontiguousarray(pixels), _QUALITY, colorsubsampling="420"
                )
            self._rows[row] = np.frombuffer(stream, np.uint8)

    def _own_bytes(self, row: int) -> bytes | None:
        grid = self._grid
        if grid.read_px != grid.config.tile_px:
            return None
        x, y = grid.coords[row].tolist()
        return self._slide.compressed_tile(x, y, grid.level, grid.read_px)


def load_patches(path: Path, rows: Sequence[int]) -> np.ndarray:
    """Return the stored patches of some rows of a feature bag, uint8 (n, tile_px, tile_px, 3).

    Raises:
        FormatError: the bag holds no patches, or an unreadable tile was asked for.
    """
    with open_checked(path, "features") as file:
        if "patches" not in file:
            raise FormatError(f"{path}: holds no patches", hint="extract again with --save-patches")
        stored: Any = file["patches"]
        streams = [np.asarray(stored[row]) for row in rows]
    for row, stream in zip(rows, streams, strict=True):
        if not len(stream):
            raise FormatError(f"{path}: tile {row} could not be read", hint="leave unreadable tiles out")
    return np.stack([simplejpeg.decode_jpeg(stream.tobytes()) for stream in streams])
