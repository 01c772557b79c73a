"""The slide with its heatmap's colours over it at full resolution, as a pyramid that viewers open."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import simplejpeg
import tifffile

from .files import replacing
from .heatmap import Heatmap
from .jpeg_tiles import JpegTiles
from .ome_metadata import ome_metadata
from .overlay import tint_shares
from .slide import Slide
from .tile_cache import n_cores
from .tile_codec import JpegCodec, UndecodableTile

_TILE_PX, _SMALL_PX, _STEP = 256, 1024, 4
_QUALITY = 90
_SUBSAMPLING = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}
_BLOCK_PX = 4096  # blocks that are averaged down
_AHEAD = 64  # tiles in work
_PROBES = 16  # tiles that are asked of what kind they are


def write_blended(
    path: Path,
    slide: Slide,
    heatmap: Heatmap,
    *,
    opacity: float,
    fingerprint: str,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write the slide with its heatmap over it as a pyramidal OME-TIFF of JPEG tiles at full resolution.

    It has the levels of the slide, and where those end at more than 1,024 px more, each a quarter as wide.
    A tile without a score is taken over byte for byte where the file holds it as JPEG; all others are
    coloured as in `overlay`, and encoded again. No more than a few rows of tiles, or a block of
    4,096 × 4,096 px, are in memory.

    Args:
        path: the file; it takes its place only when it is whole.
        slide: the slide.
        heatmap: probability, 0 to 1.
        opacity: of probability 1.
        fingerprint: kept in the file for `ome_fingerprint`.
        about: what else the file says of itself, by name.

    Raises:
        ResolutionError: the slide states no resolution.
        SlideError: a part of the slide cannot be read.
        ValueError: the heatmap is of a slide of another size.
    """
    if tuple(heatmap.size_level0_px) != tuple(slide.size_px):
        raise ValueError(f"{slide.id}: the heatmap is of a slide of {heatmap.size_level0_px} px")
    first, *smaller = _levels(slide)
    colours = _Colours(heatmap, opacity)
    metadata = ome_metadata(slide.id, (slide.mpp, slide.mpp), fingerprint, about or {})
    with (
        replacing(path) as temporary,
        ThreadPoolExecutor(n_cores(), "blend") as threads,
        tifffile.TiffWriter(temporary, ome=True, bigtiff=True) as file,
    ):
        _write_level(
            file, first, colours, threads, metadata={"axes": "YXS", **metadata}, subifds=len(smaller)
        )
        for level in smaller:
            _write_level(file, level, colours, threads, metadata=None, subfiletype=1)


@dataclass(frozen=True)
class _Level:
    """A level of the pyramid: `shrink` times smaller than the slide's `number`, of the same tiles if 1."""

    slide: Slide
    number: int
    shrink: int
    size_px: tuple[int, int]
    jpeg: JpegTiles | None = None  # of which its tiles are taken over
    encoding: "_Encoding" = field(default_factory=lambda: _Encoding())

    @property
    def tile_px(self) -> tuple[int, int]:
        return self.jpeg.tile_px if self.jpeg else (_TILE_PX, _TILE_PX)

    def read(self, column: int, row: int) -> np.ndarray:
        """Return the pixels of a tile, beyond the border as at it; what is averaged is read in blocks."""
        x, y = column * self.tile_px[0], row * self.tile_px[1]
        beyond = [
            max(0, at + n - n_all) for at, n, n_all in zip((x, y), self.tile_px, self.size_px, strict=True)
        ]
        inside = np.empty((self.tile_px[1] - beyond[1], self.tile_px[0] - beyond[0], 3), np.uint8)
        side = max(1, _BLOCK_PX // self.shrink)
        for top in range(0, inside.shape[0], side):
            for left in range(0, inside.shape[1], side):
                block = inside[top : top + side, left : left + side]
                block[:] = self._block(x + left, y + top, block.shape[1::-1])
        return cv2.copyMakeBorder(inside, 0, beyond[1], 0, beyond[0], cv2.BORDER_REPLICATE)

    def _block(self, x: int, y: int, size_px: tuple[int, int]) -> np.ndarray:
        """The pixels under some of this level, read no further than to the slide's border."""
        down = self.slide.downsamples[self.number] * self.shrink
        scale = max(s for s in self.slide.scales if self.shrink % s == 0)
        width, height = (
            max(1, min(n * self.shrink, side - start * self.shrink) // scale)
            for n, side, start in zip(size_px, self.slide.level_sizes_px[self.number], (x, y), strict=True)
        )
        left, top = round(x * down), round(y * down)
        out = np.empty((1, height, width, 3), np.uint8)
        region = out[0]
        if self.slide.read_batch(np.array([[left, top]]), self.number, out, scale=scale).any():
            # which says what is wrong
            region = self.slide.read(left, top, self.number, (width * scale, height * scale))
        return cv2.resize(region, size_px, interpolation=cv2.INTER_AREA)


def _own_level(slide: Slide, number: int) -> _Level:
    size_px, jpeg = slide.level_sizes_px[number], slide.jpeg_tiles(number)
    encoding = _encoding(jpeg)
    return (
        _Level(slide, number, 1, size_px, jpeg, encoding) if encoding else _Level(slide, number, 1, size_px)
    )


def _levels(slide: Slide) -> list[_Level]:
    sizes = slide.level_sizes_px
    levels = [_own_level(slide, number) for number in range(len(sizes))]
    last, shrink = len(sizes) - 1, _STEP
    while max(levels[-1].size_px) > _SMALL_PX:
        width, height = (max(1, round(side / shrink)) for side in sizes[last])
        levels.append(_Level(slide, last, shrink, (width, height)))
        shrink *= _STEP
    return levels


_Run = tuple[slice, np.ndarray]  # the heatmap's cells under a tile along one axis, and how often each


class _Colours:
    """What a heatmap does to the pixels of a level: they keep a share of theirs, and get a colour on top."""

    def __init__(self, heatmap: Heatmap, opacity: float) -> None:
        self._heatmap = heatmap
        self._is_scored = ~np.isnan(heatmap.values)
        share, colour = tint_shares(np.where(self._is_scored, heatmap.values, 0).ravel(), opacity)
        share = np.where(self._is_scored, share.reshape(self._is_scored.shape), 0)[..., None]
        self._kept = np.repeat(np.rint(255 * (1 - share)).astype(np.uint8), 3, axis=2)
        self._added = np.rint(colour.reshape(*self._is_scored.shape, 3) * share).astype(np.uint8)

    def runs(self, size_px: tuple[int, int], tile_px: tuple[int, int]) -> list[list[_Run]]:
        """Return what lies under each column and each row of tiles of a level."""
        cells = self._heatmap.cells_under(size_px)
        return [_runs(along, side) for along, side in zip(cells, tile_px, strict=True)]

    def is_over(self, columns: _Run, rows: _Run) -> bool:
        """Whether anything of a tile is coloured."""
        return bool(self._is_scored[rows[0], columns[0]].any())

    def paint(self, picture: np.ndarray, columns: _Run, rows: _Run) -> np.ndarray:
        """Return a tile uint8 (h, w, 3), coloured."""
        kept, added = (
            np.repeat(np.repeat(part[rows[0], columns[0]], columns[1], axis=1), rows[1], axis=0)
            for part in (self._kept, self._added)
        )
        return cv2.add(cv2.multiply(picture, kept, scale=1 / 255), added)


def _runs(cells: np.ndarray, tile_px: int) -> list[_Run]:
    runs = []
    for start in range(0, len(cells), tile_px):
        under = cells[start : start + tile_px]
        counts = np.bincount(under - under[0])
        counts[-1] += tile_px - len(under)  # beyond the border as at it
        runs.append((slice(int(under[0]), int(under[-1]) + 1), counts))
    return runs


@dataclass(frozen=True)
class _Encoding:
    """How the tiles of a level are JPEG: as those of the slide's own level."""

    is_ycbcr: bool = True
    subsampling: str = "420"
    tables: bytes | None = None

    def encode(self, picture: np.ndarray) -> bytes:
        """Return a JPEG of a tile uint8 (h, w, 3)."""
        return bytes(
            imagecodecs.jpeg8_encode(
                picture, _QUALITY, colorspace="RGB", outcolorspace=self.colours, subsampling=self.subsampling
            )
        )

    @property
    def colours(self) -> str:
        return "YCBCR" if self.is_ycbcr else "RGB"


def _encoding(jpeg: JpegTiles | None) -> _Encoding | None:
    """The encoding of a level's own tiles; None where none can be taken over."""
    if jpeg is None:
        return None
    n_tiles = jpeg.shape[0] * jpeg.shape[1]
    some = jpeg.streams(range(0, n_tiles, max(1, n_tiles // _PROBES)))
    first = next((stream for stream in some if stream is not None), None)
    if first is None or any(side % 16 for side in jpeg.tile_px):
        return None
    try:
        subsampling = simplejpeg.decode_jpeg_header(jpeg.codec.as_jpeg(first))[3]
    except ValueError:
        return None
    if not jpeg.codec.is_ycbcr:
        subsampling = "444"  # of what is encoded anew; RGB that is taken over says itself what it has
    return (
        _Encoding(jpeg.codec.is_ycbcr, subsampling, jpeg.codec.tables)
        if subsampling in _SUBSAMPLING
        else None
    )


def _write_level(
    file: tifffile.TiffWriter, level: _Level, colours: _Colours, threads: ThreadPoolExecutor, **options: Any
) -> None:
    width, height = level.size_px
    um = level.slide.mpp * level.slide.size_px[0] / width
    how = level.encoding
    file.write(
        _Blending(level, colours, threads).tiles(),
        shape=(height, width, 3),
        dtype=np.uint8,
        tile=level.tile_px[::-1],
        photometric="rgb",
        subsampling=_SUBSAMPLING[how.subsampling],
        compression="jpeg",
        compressionargs={"outcolorspace": how.colours},
        jpegtables=how.tables or None,
        resolution=(1e4 / um, 1e4 / um),
        resolutionunit="CENTIMETER",
        **options,
    )


class _Blending:
    """The tiles of a level, coloured where the heatmap has a score."""

    def __init__(self, level: _Level, colours: _Colours, threads: ThreadPoolExecutor) -> None:
        self._level, self._colours, self._threads = level, colours, threads
        self._codec = level.jpeg.codec if level.jpeg else JpegCodec(b"", is_ycbcr=True)
        self._columns, self._rows = colours.runs(level.size_px, level.tile_px)

    def tiles(self) -> Iterator[bytes]:
        """Yield the tiles row by row; those in work are no more than some ahead."""
        waiting: deque[tuple[int, int, bytes | Future[bytes | None]]] = deque()
        for y in range(len(self._rows)):
            for x, stream in enumerate(self._streams(y)):
                waiting.append((x, y, self._begin(x, y, stream)))
                if len(waiting) > _AHEAD:
                    yield self._end(*waiting.popleft())
        while waiting:
            yield self._end(*waiting.popleft())

    def _streams(self, y: int) -> list[memoryview | None]:
        n = len(self._columns)
        return self._level.jpeg.streams(range(y * n, y * n + n)) if self._level.jpeg else [None] * n

    def _begin(self, x: int, y: int, stream: memoryview | None) -> bytes | Future[bytes | None]:
        if stream is None:
            return self._threads.submit(self._blend, self._level.read(x, y), x, y)
        if not self._colours.is_over(self._columns[x], self._rows[y]):
            return bytes(stream)
        return self._threads.submit(self._blend_stream, stream, x, y)

    def _end(self, x: int, y: int, begun: bytes | Future[bytes | None]) -> bytes:
        done = begun if isinstance(begun, bytes) else begun.result()
        return self._blend(self._level.read(x, y), x, y) if done is None else done

    def _blend_stream(self, stream: memoryview, x: int, y: int) -> bytes | None:
        """Return a tile of the file, coloured; None where it can be read in no such way."""
        width, height = self._level.tile_px
        picture = np.empty((height, width, 3), np.uint8)
        try:
            self._codec.decode(stream, picture, 1)
        except UndecodableTile:
            return None
        return self._blend(picture, x, y)

    def _blend(self, picture: np.ndarray, x: int, y: int) -> bytes:
        painted = self._colours.paint(picture, self._columns[x], self._rows[y])
        return self._level.encoding.encode(painted)
