"""Patches kept beside their features: a JPEG a tile in the feature bag."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from tiling import FormatError, Patches, Slide, TileGrid, open_checked, read_header

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
        FormatError: the bag holds no patches, or one was asked for that is damaged or of an unreadable tile.
    """
    with open_checked(path, "features") as file:
        if "patches" not in file:
            raise FormatError(f"{path}: holds no patches", hint="extract again with --save-patches")
        patches = [_decoded(path, file["patches"], row) for row in rows]
        side = len(patches[0]) if patches else int(read_header(file)["tile_px"])
    return np.array(patches, np.uint8).reshape(-1, side, side, 3)


def _decoded(path: Path, stored: Any, row: int) -> np.ndarray:
    try:
        stream = np.asarray(stored[row])
        if len(stream):
            return simplejpeg.decode_jpeg(stream.tobytes())
    except (OSError, RuntimeError, ValueError) as error:  # the first two are HDF5's
        raise FormatError(
            f"{path}: the patch of tile {row} is damaged ({error})", hint="extract this slide again"
        ) from error
    raise FormatError(f"{path}: tile {row} could not be read", hint="leave unreadable tiles out")
