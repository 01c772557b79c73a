"""Slides of compressed tiles at the speed of the decoder, with OpenSlide beside for all that is not plain."""

from collections import defaultdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from .errors import SlideError
from .jpeg_tiles import JpegTiles
from .openslide_reader import OpenSlideSlide
from .slide import READERS, Unsuited
from .tiff_index import NotIndexable, TiledLevel, index_tiles
from .tile_cache import Piece, TileCache
from .tile_codec import JpegCodec, UndecodableTile

_VENDORS = ("aperio", "generic-tiff", "philips")  # whose levels are plain images of tiles
_LARGE_PX = 512
_SCATTERED_BYTES = 32 << 20  # of tiles to keep where regions do not go down the slide


@READERS.register("tiled-tiff")
class TiledTiffSlide(OpenSlideSlide):
    """A slide whose levels are JPEG or JPEG 2000 tiles in a TIFF: Aperio, Philips, generic tiled TIFF.

    OpenSlide says what the slide is, and reads where a tile is missing or damaged; whole tiles are
    decoded here, once each. At places that fall on a pixel of their level the pixels are OpenSlide's,
    bit for bit; elsewhere OpenSlide mixes neighbours, and here the nearest pixel counts.
    """

    reader = "tiled-tiff"
    preference = 10
    suffixes = frozenset({".svs", ".tif", ".tiff", ".ptif", ".ptiff"})

    def __init__(self, path: Path, *, id: str, mpp: float | None, fallback_mpp: float | None) -> None:
        super().__init__(path, id=id, mpp=mpp, fallback_mpp=fallback_mpp)
        try:
            self._levels = self._match()
            self.scales = tuple(sorted(set.intersection(*(set(of.codec.scales) for of in self._levels))))
            self._tiles = TileCache(path, self._levels)
            for level in range(len(self._levels)):
                self._prove(level)
        except NotIndexable as error:
            self.close()
            raise Unsuited(f"{self.id}: {error}") from error

    def _look_at_header(self) -> None:
        try:
            self._index = index_tiles(self.path)
        except NotIndexable as error:
            raise Unsuited(f"{self.id}: {error}") from error

    def _match(self) -> list[TiledLevel]:
        """The tiles of each of OpenSlide's levels."""
        vendor = self.properties.get("openslide.vendor", "")
        if vendor not in _VENDORS:
            raise NotIndexable(f"it is of the kind {vendor}")
        by_size = {level.size_px: level for level in reversed(self._index)}
        unmatched = [size for size in self.level_sizes_px if size not in by_size]
        if unmatched:
            raise NotIndexable(f"{len(unmatched)} of its levels are not JPEG or JPEG 2000 tiles")
        return [by_size[size] for size in self.level_sizes_px]

    def _prove(self, level: int) -> None:
        """Decode some tiles of a level both ways: colours, tables and order must be understood."""
        of = self._levels[level]
        rows, columns = of.offsets.shape
        there = {(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)} if level == 0 else {(0, 0)}
        n_alike, n_undecodable = 0, 0
        for row, column in there:
            x, y = column * of.tile_px[0], row * of.tile_px[1]
            size = (min(of.tile_px[0], of.size_px[0] - x), min(of.tile_px[1], of.size_px[1] - y))
            number = row * columns + column
            try:
                right = super()._read(x, y, level, size)
            except SlideError:
                continue
            try:
                tile = self._tiles.decode(level, number)
            except UndecodableTile:
                n_undecodable += of.byte_counts[row, column] > 0
                continue  # OpenSlide will read it
            if not np.array_equal(tile[: size[1], : size[0]], right):
                raise NotIndexable(f"a tile of level {level} decodes to other pixels than OpenSlide's")
            n_alike += 1
        if n_undecodable and not n_alike:
            raise NotIndexable(f"tiles of level {level} cannot be decoded but by OpenSlide")

    def _read(self, x: int, y: int, level: int, size_px: tuple[int, int]) -> np.ndarray:
        out = np.empty((1, size_px[1], size_px[0], 3), np.uint8)
        if self.read_batch(np.array([[x, y]]), level, out).any():
            return super()._read(x, y, level, size_px)  # which says what is wrong
        return out[0]

    def read_batch(self, corners: np.ndarray, level: int, out: np.ndarray, *, scale: int = 1) -> np.ndarray:
        """Read regions as `Slide.read_batch`, each tile decoded once and the file read forward."""
        starts = self._starts(corners, level, scale)
        size = np.array(out.shape[2:0:-1])
        border = -(-np.array(self._levels[level].size_px) // scale)
        out[((starts < 0) | (starts + size > border)).any(1)] = self._background
        uses = _uses(self._levels[level], starts, (out.shape[2], out.shape[1]), scale)
        failed = np.zeros(len(corners), bool)
        least_bytes = 0 if (np.diff(starts[:, 1]) >= 0).all() else _SCATTERED_BYTES
        for number in self._tiles.spread(level, scale, uses, out, least_bytes=least_bytes):
            failed[[piece[0] for piece in uses[number]]] = True
        _mend_border(out, border - 1 - starts, np.array(self._levels[level].size_px) % scale > 0)
        for row in np.flatnonzero(failed).tolist():
            failed[row] = not self._read_slowly(corners[row].tolist(), level, out[row], scale)
        return failed

    def expect(self, corners: np.ndarray, level: int, size_px: tuple[int, int], *, scale: int = 1) -> None:
        """Begin to fetch the tiles that these regions touch."""
        uses = _uses(self._levels[level], self._starts(corners, level, scale), size_px, scale)
        self._tiles.expect(level, scale, uses)

    def _starts(self, corners: np.ndarray, level: int, scale: int) -> np.ndarray:
        return np.rint(corners / (self.downsamples[level] * scale)).astype(np.int64)

    def compressed_tile(self, x: int, y: int, level: int, side_px: int) -> bytes | None:
        """Return the JPEG that the file holds of just this square, None where there is none."""
        down, of = self.downsamples[level], self._levels[level]
        column, row = x / down / side_px, y / down / side_px
        is_whole = column.is_integer() and row.is_integer() and of.tile_px == (side_px, side_px)
        is_whole &= min(x, y) >= 0  # tiles of `regrid` may begin beyond the border
        if not is_whole or (column + 1) * side_px > of.size_px[0] or (row + 1) * side_px > of.size_px[1]:
            return None
        compressed = self._tiles.compressed(level, int(row) * of.offsets.shape[1] + int(column))
        return None if compressed is None else of.codec.as_jpeg(compressed)

    def jpeg_tiles(self, level: int) -> JpegTiles | None:
        """Return the JPEG tiles of a level, None where they are JPEG 2000."""
        of = self._levels[level]
        if not isinstance(of.codec, JpegCodec):
            return None
        return JpegTiles(of.tile_px, of.offsets.shape, of.codec, partial(self._tiles.streams, level))

    def _read_slowly(self, corner: list[int], level: int, out: np.ndarray, scale: int) -> bool:
        try:
            region = super()._read(corner[0], corner[1], level, (out.shape[1] * scale, out.shape[0] * scale))
        except SlideError:
            return False
        out[:] = region if scale == 1 else cv2.resize(region, out.shape[1::-1], interpolation=cv2.INTER_AREA)
        return True

    def thumbnail(self, mpp: float) -> np.ndarray:
        """Return the whole slide as fine as `mpp` or finer, (H, W, 3) uint8, decoded no finer than needed."""
        level, scale = self._level_and_scale(mpp)
        if self.scales == (1,):
            return super().thumbnail(mpp)
        width, height = (max(1, -(-side // scale)) for side in self.level_sizes_px[level])
        out = self._empty_thumbnail(width, height)
        rows = self._levels[level].tile_px[1] // scale
        for y in range(0, height, rows):
            part = out[y : y + rows]
            corner, below = (
                np.array([[0, round(top * scale * self.downsamples[level])]]) for top in (y, y + rows)
            )
            self.expect(below, level, (width, min(rows, height - y - rows)), scale=scale)
            if self.read_batch(corner, level, part[None], scale=scale).any():
                raise SlideError(
                    f"{self.id}: cannot be read at row {corner[0, 1]}, level {level}",
                    hint="copy the file again from its source; it is damaged or cut short",
                )
        return out

    def _level_and_scale(self, mpp: float) -> tuple[int, int]:
        wanted = max(mpp / self.mpp, 1.0) * 1.01
        level = max(i for i, d in enumerate(self.downsamples) if d <= wanted)
        size = self.level_sizes_px[level]
        # the last scaled pixel may hang over the border: in a small picture that would be felt
        fits = [s for s in self.scales if all(side % s == 0 or side // s >= _LARGE_PX for side in size)]
        return level, max(s for s in fits if self.downsamples[level] * s <= wanted or s == 1)

    def close(self) -> None:
        """Let go of the file."""
        if hasattr(self, "_tiles"):
            self._tiles.close()
        super().close()


def _mend_border(out: np.ndarray, last: np.ndarray, hangs: np.ndarray) -> None:
    """Repeat the slide's last whole column and row in those that hang over its border when scaled.

    Encoders fill tiles beyond the border with anything, mostly black. `last` int64 (n, 2) is where the
    last (column, row) lies in each region, `hangs` bool (2,) whether they hang over.
    """
    for region, (column, row) in zip(out, last.tolist(), strict=True):
        if hangs[0] and 0 < column < out.shape[2]:
            region[:, column] = region[:, column - 1]
        if hangs[1] and 0 < row < out.shape[1]:
            region[row] = region[row - 1]


def _uses(of: TiledLevel, starts: np.ndarray, size_px: tuple[int, int], scale: int) -> dict[int, list[Piece]]:
    """Which tiles regions of `size_px` (width, height) touch, and what of each goes where.

    `starts` int64 (n, 2) are their corners (x, y), in pixels of the scaled level as all else.
    """
    tile_width, tile_height = (side // scale for side in of.tile_px)
    width, height = (-(-side // scale) for side in of.size_px)
    n_columns = of.offsets.shape[1]
    across = {x: _cuts(x, size_px[0], tile_width, width) for x in set(starts[:, 0].tolist())}
    down = {y: _cuts(y, size_px[1], tile_height, height) for y in set(starts[:, 1].tolist())}
    uses: defaultdict[int, list[Piece]] = defaultdict(list)
    for region, (x, y) in enumerate(starts.tolist()):
        for row, to_rows, rows in down[y]:
            for column, to_columns, columns in across[x]:
                uses[row * n_columns + column].append((region, to_rows, to_columns, rows, columns))
    return uses


def _cuts(start: int, length: int, tile: int, border: int) -> list[tuple[int, slice, slice]]:
    """Which rows, or columns, of tiles a run of pixels touches, where in it each goes, and what of it."""
    first, last = max(start, 0), min(start + length, border)
    cuts = []
    for number in range(first // tile, -(-last // tile) if first < last else 0):
        begin, end = max(first, number * tile), min(last, (number + 1) * tile)
        to, source = (slice(begin - origin, end - origin) for origin in (start, number * tile))
        cuts.append((number, to, source))
    return cuts
