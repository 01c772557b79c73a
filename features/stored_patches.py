"""Patches kept beside their features: a JPEG a tile in the feature bag."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from tiling import FormatError, Patches, Slide, TileGrid, open_checked

_QUALITY = 90


def compress(slide: Slide, grid: TileGrid, patches: Patches) -> list[bytes]:
    """Return a JPEG of each patch, empty where it is unreadable.

    Where a patch is just one of the slide's own compressed tiles, it is that tile, not coded again.
    """
    streams = []
    for row, (pixels, is_lost) in enumerate(
        zip(patches.pixels, patches.unreadable, strict=True), patches.start
    ):
        stream = b"" if is_lost else _own_bytes(slide, grid, row)
        if stream is None:
            stream = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), _QUALITY, colorsubsampling="420")
        streams.append(stream)
    return streams


def _own_bytes(slide: Slide, grid: TileGrid, row: int) -> bytes | None:
    if grid.read_px != grid.config.tile_px:
        return None
    x, y = grid.coords[row].tolist()
    return slide.compressed_tile(x, y, grid.level, grid.read_px)


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
