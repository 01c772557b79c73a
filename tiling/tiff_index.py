"""Where the compressed tiles of a TIFF lie, so that they can be decoded without a TIFF library."""

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import tifffile

from .tile_codec import Jpeg2000Codec, JpegCodec, TileCodec

_TILE_SIDES_PX = range(16, 4097, 8)
_MOST_TILE_PX, _MOST_SAMPLES = 1 << 26, 64
_MAX_TILES = 1 << 24  # a slide of a million pixels a side in tiles of 256
_MAX_TILE_BYTES = 1 << 26
_JPEG, _JPEG_2000_YCBCR, _JPEG_2000_RGB = 7, 33003, 33005  # the latter two are Aperio's
_IS_YCBCR = {tifffile.PHOTOMETRIC.RGB: False, tifffile.PHOTOMETRIC.YCBCR: True}


# what tifffile raises on damaged headers
DAMAGED = (
    tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError, OverflowError,
    ZeroDivisionError, struct.error,
)  # fmt: skip


def open_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF; raises one of `DAMAGED`, or MemoryError, where that cannot be."""
    _keep_quiet()
    return tifffile.TiffFile(path)


@cache
def _keep_quiet() -> None:
    # it logs what is then raised or read by others; an application that wants to see that sets up logging
    logging.getLogger("tifffile").addHandler(logging.NullHandler())


class NotIndexable(Exception):
    """A TIFF whose tiles cannot be addressed; the text says why."""


@dataclass(frozen=True)
class TiledLevel:
    """The tiles of one image of a TIFF: `offsets` and `byte_counts` int64 (rows, columns), 0 where missing.

    `size_px` and `tile_px` are (width, height); tiles are numbered row by row.
    """

    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    offsets: np.ndarray
    byte_counts: np.ndarray
    codec: TileCodec

    def __repr__(self) -> str:
        rows, columns = self.offsets.shape
        return f"TiledLevel({self.size_px[0]} × {self.size_px[1]} px, {columns} × {rows} tiles)"

    def extents(self, numbers: Sequence[int]) -> list[tuple[int, int]]:
        """Return where tiles begin in the file and how many bytes they have, 0 where they are missing."""
        places = np.asarray(numbers, np.int64)
        offsets, counts = self.offsets.ravel()[places], self.byte_counts.ravel()[places]
        return list(zip(offsets.tolist(), counts.tolist(), strict=True))


def index_tiles(path: Path) -> list[TiledLevel]:
    """Return the tiled images of a TIFF that can be decoded here, in the file's order.

    Raises:
        NotIndexable: the file is no TIFF, or states sizes or places that cannot be.
    """
    try:
        file_bytes = path.stat().st_size
        with open_tiff(path) as file:
            pages = _pages(file)
            if absurd := _absurd_tiles(pages, file_bytes):
                raise NotIndexable(f"states {absurd}")
            return [_level(page, file_bytes) for page in pages if _is_decodable(page)]
    except MemoryError as error:
        raise NotIndexable("asks for more bytes in its header than there is memory for") from error
    except DAMAGED as error:
        raise NotIndexable(f"tifffile cannot list its tiles ({error})") from error


def absurd_tiles(path: Path) -> str:
    """Return what is absurd in the tiles that a TIFF states, "" if nothing is or it is no TIFF.

    To be asked before a library takes memory for such a tile: some end the process where they get none.
    """
    try:
        file_bytes = path.stat().st_size
        with open_tiff(path) as file:
            return _absurd_tiles(_pages(file), file_bytes)
    except MemoryError:
        return "more bytes in its header than there is memory for"
    except DAMAGED:
        return ""  # the reader will say what is wrong


def _absurd_tiles(pages: list[tifffile.TiffPage], file_bytes: int) -> str:
    for page in pages:
        width, height, samples = page.tilewidth, page.tilelength, page.samplesperpixel
        if page.is_tiled and (width * height > _MOST_TILE_PX or samples > _MOST_SAMPLES):
            return f"tiles of {width} × {height} px, {samples} samples each"
        if page.is_tiled and max(page.databytecounts, default=0) > file_bytes:
            return f"a tile of {max(page.databytecounts)} bytes in a file of {file_bytes}"
    return ""


def _pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    return [page for page in file.pages if isinstance(page, tifffile.TiffPage)]


def _is_decodable(page: tifffile.TiffPage) -> bool:
    return page.is_tiled and page.compression in (_JPEG, _JPEG_2000_YCBCR, _JPEG_2000_RGB)


def _level(page: tifffile.TiffPage, file_bytes: int) -> TiledLevel:
    is_ycbcr = _IS_YCBCR.get(tifffile.PHOTOMETRIC(page.photometric))
    if is_ycbcr is None or page.samplesperpixel != 3 or page.bitspersample != 8:
        raise NotIndexable(
            f"its tiles are {page.samplesperpixel} x {page.bitspersample} bit, no RGB or YCbCr"
        )
    if page.planarconfig != tifffile.PLANARCONFIG.CONTIG:
        raise NotIndexable("its colours lie in separate planes")
    width, height = page.imagewidth, page.imagelength
    tile_width, tile_height = page.tilewidth, page.tilelength
    if min(width, height) < 1 or tile_width not in _TILE_SIDES_PX or tile_height not in _TILE_SIDES_PX:
        raise NotIndexable(f"states {width} × {height} px in tiles of {tile_width} × {tile_height}")
    shape = (-(-height // tile_height), -(-width // tile_width))
    if shape[0] * shape[1] > _MAX_TILES or len(page.dataoffsets) != shape[0] * shape[1]:
        raise NotIndexable(f"lists {len(page.dataoffsets)} tiles, {shape[0] * shape[1]} are due")
    offsets = np.array(page.dataoffsets, np.int64).reshape(shape)
    byte_counts = np.array(page.databytecounts, np.int64).reshape(shape)
    if byte_counts.max() > _MAX_TILE_BYTES or (offsets + byte_counts).max() > file_bytes:
        raise NotIndexable("lists tiles beyond the end of the file")
    if page.compression == _JPEG:
        codec = JpegCodec(page.jpegtables or b"", is_ycbcr=is_ycbcr)
    else:  # which says the colours itself
        codec = Jpeg2000Codec(is_ycbcr=page.compression == _JPEG_2000_YCBCR)
    return TiledLevel((width, height), (tile_width, tile_height), offsets, byte_counts, codec)
