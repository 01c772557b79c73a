"""JPEG-tiled slides at the speed of the JPEG decoder, with OpenSlide beside it for all that is not plain."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from .errors import SlideError
from .openslide_reader import OpenSlideSlide
from .slide import READERS, Unsuited
from .tiff_index import NotIndexable, TiledLevel, index_tiles
from .tile_cache import SCALES, Place, TileCache, UndecodableTile

_VENDORS = ("aperio", "generic-tiff", "philips")  # whose levels are plain images of tiles
_LARGE_PX = 512
_BYTES_AT_A_TIME = 48 << 20  # so much is decoded before regions are put together and the cache is trimmed


@READERS.register("jpeg-tiff")
class JpegTiffSlide(OpenSlideSlide):
    """A slide whose levels are JPEG tiles in a TIFF: Aperio, Philips, and tiled TIFF of any maker.

    OpenSlide says what the slide is, and reads where a tile is missing or damaged; whole tiles are
    decoded here, once each. At places that fall on a pixel of their level the pixels are OpenSlide's,
    bit for bit; elsewhere OpenSlide mixes neighbours, and here the nearest pixel counts.
    """

    reader = "jpeg-tiff"
    preference = 10
    suffixes = frozenset({".svs", ".tif", ".tiff", ".ptif", ".ptiff"})
    scales = SCALES

    def __init__(self, path: Path, *, id: str, mpp: float | None, fallback_mpp: float | None) -> None:
        super().__init__(path, id=id, mpp=mpp, fallback_mpp=fallback_mpp)
        try:
            self._levels = self._match(path)
            self._tiles = TileCache(path, self._levels)
            self._prove()
        except NotIndexable as error:
            self.close()
            raise Unsuited(f"{self.id}: {error}") from error

    def _match(self, path: Path) -> list[TiledLevel]:
        """The tiles of each of OpenSlide's levels."""
        vendor = self.properties.get("openslide.vendor", "")
        if vendor not in _VENDORS:
            raise NotIndexable(f"it is of the kind {vendor}")
        by_size = {level.size_px: level for level in reversed(index_tiles(path))}
        unmatched = [size for size in self.level_sizes_px if size not in by_size]
        if unmatched:
            raise NotIndexable(f"{len(unmatched)} of its levels are not JPEG tiles")
        return [by_size[size] for size in self.level_sizes_px]

    def _prove(self) -> None:
        """Decode some tiles of each level both ways: colours, tables and order must be understood."""
        for level, of in enumerate(self._levels):
            rows, columns = of.offsets.shape
            there = {(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)} if level == 0 else {(0, 0)}
            for row, column in there:
                try:
                    tile = self._tiles.decode((level, row, column, 1))
                except UndecodableTile:
                    continue  # OpenSlide will read it, or not
                x, y = column * of.tile_px[0], row * of.tile_px[1]
                size = (min(of.tile_px[0], of.size_px[0] - x), min(of.tile_px[1], of.size_px[1] - y))
                try:
                    right = super()._read(x, y, level, size)
                except SlideError:
                    continue
                if not np.array_equal(tile[: size[1], : size[0]], right):
                    raise NotIndexable(f"a tile of level {level} decodes to other pixels than OpenSlide's")

    def _read(self, x: int, y: int, level: int, size_px: tuple[int, int]) -> np.ndarray:
        out = np.empty((1, size_px[1], size_px[0], 3), np.uint8)
        if self.read_batch(np.array([[x, y]]), level, out).any():
            return super()._read(x, y, level, size_px)  # which says what is wrong
        return out[0]

    def read_batch(self, corners: np.ndarray, level: int, out: np.ndarray, *, scale: int = 1) -> np.ndarray:
        """Read regions as `Slide.read_batch`, each tile decoded once and the file read forward."""
        starts = np.rint(corners / (self.downsamples[level] * scale)).astype(np.int64).tolist()
        plans = [list(_pieces(self._levels[level], level, s, out.shape[1:3], scale)) for s in starts]
        failed = np.zeros(len(corners), bool)
        width, height = self._levels[level].tile_px
        most = max(1, _BYTES_AT_A_TIME * scale**2 // (width * height * 3))
        for first, last in _portions(plans, most):
            rows = range(first, last)
            whole = [row for row in rows if self._is_one_tile(plans[row], out)]
            whole.sort(key=lambda row: plans[row][0][0])  # other tools' tiles come in any order
            done = self._tiles.decode_all([(plans[row][0][0], out[row]) for row in whole])
            direct = {row for row, is_done in zip(whole, done, strict=True) if is_done}
            rest = [row for row in rows if row not in direct]
            self._tiles.load(place for row in rest for place, *_ in plans[row])
            for row in rest:
                failed[row] = not self._assemble(plans[row], corners[row].tolist(), level, out[row], scale)
            self._tiles.trim()
        return failed

    def compressed_tile(self, x: int, y: int, level: int, side_px: int) -> bytes | None:
        """Return the JPEG that the file holds of just this square, None where there is none."""
        down, of = self.downsamples[level], self._levels[level]
        column, row = x / down / side_px, y / down / side_px
        is_whole = column.is_integer() and row.is_integer() and of.tile_px == (side_px, side_px)
        is_whole &= min(x, y) >= 0  # tiles of `regrid` may begin beyond the border
        if not is_whole or (column + 1) * side_px > of.size_px[0] or (row + 1) * side_px > of.size_px[1]:
            return None
        return self._tiles.stream(level, int(row), int(column))

    def _is_one_tile(self, plan: list["_Piece"], out: np.ndarray) -> bool:
        """Such a region is decoded right where it is wanted."""
        if len(plan) != 1 or self._tiles.get(plan[0][0]) is not None or not out[0].flags.c_contiguous:
            return False
        (level, _, _, scale), to, source = plan[0]
        size = tuple(side // scale for side in self._levels[level].tile_px[::-1])
        whole = (slice(0, size[0]), slice(0, size[1]))
        return to == source == whole and out.shape[1:3] == size

    def _assemble(
        self, plan: list["_Piece"], corner: list[int], level: int, out: np.ndarray, scale: int
    ) -> bool:
        """Fill `out` (h, w, 3) from loaded tiles, or by OpenSlide if one is missing; return whether it is."""
        tiles = [self._tiles.get(place) for place, *_ in plan]
        covered = sum((to[0].stop - to[0].start) * (to[1].stop - to[1].start) for _, to, _ in plan)
        if covered < out.shape[0] * out.shape[1]:
            out[:] = self._background  # beyond the border
        for tile, (_, to, source) in zip(tiles, plan, strict=True):
            if tile is None:
                return self._read_slowly(corner, level, out, scale)
            out[to] = tile[source]
        return True

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
        width, height = (max(1, -(-side // scale)) for side in self.level_sizes_px[level])
        out = self._empty_thumbnail(width, height)
        rows = self._levels[level].tile_px[1] // scale
        for y in range(0, height, rows):
            part = out[y : y + rows]
            corner = np.array([[0, round(y * scale * self.downsamples[level])]])
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
        fits = [s for s in SCALES if all(side % s == 0 or side // s >= _LARGE_PX for side in size)]
        return level, max(s for s in fits if self.downsamples[level] * s <= wanted or s == 1)

    def close(self) -> None:
        """Let go of the file."""
        if hasattr(self, "_tiles"):
            self._tiles.close()
        super().close()


_Piece = tuple[Place, tuple[slice, slice], tuple[slice, slice]]  # a tile, where it goes, what of it


def _portions(plans: list[list[_Piece]], most: int) -> Iterator[tuple[int, int]]:
    """Runs of regions that touch at most `most` tiles together, or one region alone that touches more."""
    first, count = 0, 0
    for row, plan in enumerate(plans):
        if count and count + len(plan) > most:
            yield first, row
            first, count = row, 0
        count += len(plan)
    yield first, len(plans)


def _pieces(
    of: TiledLevel, level: int, start: list[int], shape: tuple[int, int], scale: int
) -> Iterator[_Piece]:
    """Which tiles a region from `start` (x, y) of `shape` (h, w) touches, in pixels of the scaled level."""
    (x, y), (height, width) = start, shape
    tile_width, tile_height = (side // scale for side in of.tile_px)
    right = min(x + width, -(-of.size_px[0] // scale))
    bottom = min(y + height, -(-of.size_px[1] // scale))
    left, top = max(x, 0), max(y, 0)
    if left >= right or top >= bottom:
        return
    for row in range(top // tile_height, -(-bottom // tile_height)):
        y0, y1 = max(top, row * tile_height), min(bottom, (row + 1) * tile_height)
        for column in range(left // tile_width, -(-right // tile_width)):
            x0, x1 = max(left, column * tile_width), min(right, (column + 1) * tile_width)
            to = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
            tile_x, tile_y = column * tile_width, row * tile_height
            source = (slice(y0 - tile_y, y1 - tile_y), slice(x0 - tile_x, x1 - tile_x))
            yield (level, row, column, scale), to, source
