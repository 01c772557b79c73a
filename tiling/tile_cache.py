"""Decoded tiles of a TIFF: each decoded once, kept while they may be needed, within bounds."""

import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .fresh_memory import empty_pixels
from .tiff_index import TiledLevel
from .tile_bytes import Extent, TileBytes
from .tile_codec import TileCodec, UndecodableTile

_MOST_BYTES = 256 << 20  # of tiles that are kept: two rows of a slide 160,000 px wide
_COMPRESSED_BYTES = 16 << 20  # read before they are decoded
_DECODED_BYTES = 48 << 20  # decoded before tiles no longer needed are let go
_SLAB_BYTES = 8 << 20  # of fresh memory at a time

_MOST_THREADS = 8
_TILES_A_THREAD = 16
_LEAST_SHARE = 4  # tiles that are worth a thread

Piece = tuple[int, slice, slice, slice, slice]  # a region, its rows and columns, the tile's rows and columns


@dataclass(slots=True)
class _Job:
    """A tile, decoded if it has no bytes; and where it goes, nowhere if it is decoded where it is wanted."""

    number: int
    tile: np.ndarray
    compressed: memoryview | None
    pieces: Sequence[Piece]


class TileCache:
    """Tiles by level, scale and number, decoded from the file on demand; at most 256 MB of them are kept."""

    def __init__(self, path: Path, levels: list[TiledLevel]) -> None:
        self._levels = levels
        self._bytes = TileBytes(path)
        self._n_threads = min(_MOST_THREADS, n_cores())
        self._threads = ThreadPoolExecutor(self._n_threads, "decode")
        self._tiles: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self._spare: list[np.ndarray] = []  # of the size that was spread last
        self._kept_bytes = 0

    def decode(self, level: int, number: int) -> np.ndarray:
        """Return a tile, uint8 (h, w, 3); whole, also beyond the border.

        Raises:
            UndecodableTile: it is missing in the file, or damaged.
        """
        of = self._levels[level]
        compressed = self.compressed(level, number)
        if compressed is None:
            raise UndecodableTile
        out = np.empty((of.tile_px[1], of.tile_px[0], 3), np.uint8)
        of.codec.decode(compressed, out, 1)
        return out

    def compressed(self, level: int, number: int) -> memoryview | None:
        """Return a tile's bytes as they are in the file, None if it is missing or cannot be read whole."""
        return self.streams(level, [number])[0]

    def streams(self, level: int, numbers: Sequence[int]) -> list[memoryview | None]:
        """Return several tiles' bytes as `compressed` does, by few large reads."""
        extents = self._levels[level].extents(numbers)
        read = self._bytes.read(extent for extent in extents if extent[1])
        return [read[extent] if extent[1] and len(read[extent]) == extent[1] else None for extent in extents]

    def expect(self, level: int, scale: int, numbers: Iterable[int]) -> None:
        """Begin to read the tiles that will be spread next."""
        missing = [number for number in numbers if (level, scale, number) not in self._tiles]
        self._bytes.expect(self._levels[level].extents(missing))

    def spread(
        self,
        level: int,
        scale: int,
        uses: Mapping[int, Sequence[Piece]],
        out: np.ndarray,
        *,
        least_bytes: int,
    ) -> list[int]:
        """Put tiles where they are used in `out`, uint8 (n, h, w, 3); return the numbers of broken ones.

        They are read in the file's order and decoded on all cores that this process may use. Kept are
        as many as the regions beside each other touch, or `least_bytes` if that is more.
        """
        of, lost = self._levels[level], []
        size = (of.tile_px[1] // scale, of.tile_px[0] // scale, 3)
        n_rows = -(-(out.shape[1] - 1) // size[0]) + 1
        bound = min(max(n_rows * of.offsets.shape[1] * math.prod(size), least_bytes), _MOST_BYTES)
        if self._spare and self._spare[0].shape != size:
            self._spare.clear()
        most = max(1, min(_TILES_A_THREAD * self._n_threads, _DECODED_BYTES // math.prod(size)))
        missing = self._spread_kept(level, scale, uses, out)
        for portion in _portions(sorted(zip(of.extents(missing), missing, strict=True))):
            read = self._bytes.read(extent for extent, _ in portion)
            for start in range(0, len(portion), most):
                jobs = []
                for extent, number in portion[start : start + most]:
                    own = _own_place(uses[number], out, size)
                    tile, pieces = (self._buffer(size), uses[number]) if own is None else (own, ())
                    jobs.append(_Job(number, tile, read[extent], pieces))
                for job, is_done in zip(jobs, self._run(of.codec, jobs, scale, out), strict=True):
                    if not is_done:
                        lost.append(job.number)
                    if job.pieces and is_done:
                        self._tiles[level, scale, job.number] = job.tile
                        self._kept_bytes += job.tile.nbytes
                    elif job.pieces:
                        self._spare.append(job.tile)
                self._trim(bound, size)
        return lost

    def _spread_kept(
        self, level: int, scale: int, uses: Mapping[int, Sequence[Piece]], out: np.ndarray
    ) -> list[int]:
        """Put those tiles where they are used that are there; return the numbers of the others."""
        jobs, missing = [], []
        for number, pieces in uses.items():
            tile = self._tiles.get((level, scale, number))
            if tile is None:
                missing.append(number)
            else:
                self._tiles.move_to_end((level, scale, number))
                jobs.append(_Job(number, tile, None, pieces))
        self._run(self._levels[level].codec, jobs, scale, out)
        return missing

    def _run(self, codec: TileCodec, jobs: list[_Job], scale: int, out: np.ndarray) -> list[bool]:
        """Decode and copy; return which tiles could be decoded."""

        def run(some: list[_Job]) -> list[bool]:
            return [_decode_and_copy(codec, job, scale, out) for job in some]

        share = max(_LEAST_SHARE, -(-len(jobs) // (4 * self._n_threads)))
        if self._n_threads == 1 or len(jobs) <= share:
            return run(jobs)
        # a few long jobs: handing over each tile would cost as much as decoding it
        shares = [jobs[start : start + share] for start in range(0, len(jobs), share)]
        return [is_done for done in self._threads.map(run, shares) for is_done in done]

    def _trim(self, bound: int, size: tuple[int, int, int]) -> None:
        """Let go of the tiles not used for longest, down to so many bytes."""
        while self._kept_bytes > bound:
            _, tile = self._tiles.popitem(last=False)
            self._kept_bytes -= tile.nbytes
            if tile.shape == size:
                self._spare.append(tile)

    def _buffer(self, size: tuple[int, int, int]) -> np.ndarray:
        """Room for a tile, used before or of a large piece: fresh pages cost much."""
        if not self._spare:
            self._spare.extend(empty_pixels((max(1, _SLAB_BYTES // math.prod(size)), *size)))
        return self._spare.pop()

    def close(self) -> None:
        """Let go of the file and of all tiles."""
        self._threads.shutdown()
        self._bytes.close()
        self._tiles.clear()
        self._spare.clear()


def _decode_and_copy(codec: TileCodec, job: _Job, scale: int, out: np.ndarray) -> bool:
    if job.compressed is not None:
        try:
            codec.decode(job.compressed, job.tile, scale)
        except UndecodableTile:
            return False
    for region, to_rows, to_columns, rows, columns in job.pieces:  # while the tile is in a near cache
        out[region, to_rows, to_columns] = job.tile[rows, columns]
    return True


def _own_place(pieces: Sequence[Piece], out: np.ndarray, size: tuple[int, int, int]) -> np.ndarray | None:
    """The region that just this tile fills, if it can be decoded right there."""
    whole = (slice(0, size[0]), slice(0, size[1]))
    if len(pieces) != 1 or out.shape[1:] != size or pieces[0][1:] != whole * 2:
        return None
    region = out[pieces[0][0]]
    return region if region.flags.c_contiguous else None


def _portions(tiles: list[tuple[Extent, int]]) -> Iterator[list[tuple[Extent, int]]]:
    """Runs of tiles whose bytes in the file are read together, or one tile alone."""
    run, total = [], 0
    for tile in tiles:
        if run and total + tile[0][1] > _COMPRESSED_BYTES:
            yield run
            run, total = [], 0
        run.append(tile)
        total += tile[0][1]
    if run:
        yield run


def n_cores() -> int:
    """Cores that this process may use, which on a cluster are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
