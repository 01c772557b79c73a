"""The JPEG tiles that a level of a slide is made of, as they are in its file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .tile_codec import JpegCodec


@dataclass(frozen=True)
class JpegTiles:
    """Tiles of `tile_px` (width, height), `shape` (rows, columns) of them, numbered row by row.

    `streams` returns the bytes of some tiles by number, None for one that is missing or cannot be read
    whole; `codec` knows what the tiles share.
    """

    tile_px: tuple[int, int]
    shape: tuple[int, ...]
    codec: JpegCodec
    streams: Callable[[Sequence[int]], list[memoryview | None]]
