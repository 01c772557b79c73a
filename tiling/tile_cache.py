"""Decoded tiles of a JPEG-tiled TIFF: each decoded once, kept while they may be needed, within bounds."""

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import simplejpeg

from .tiff_index import TiledLevel

SCALES = (1, 2, 4, 8)  # decoding to 1/scale costs less: the decoder leaves out the finest waves
_CACHE_BYTES = 256 << 20  # two rows of tiles of a slide 100,000 px wide, and more

_MOST_THREADS = 8
_LEAST_SHARE = 4  # tiles that are worth a thread

Place = tuple[int, int, int, int]  # level, row, column, scale
Job = tuple[Place, np.ndarray]  # a tile and where it is decoded to


class UndecodableTile(Exception):
    """A tile that is missing or broken."""


class TileCache:
    """Tiles by place, decoded from the file on demand; not more than 256 MB of them are kept."""

    def __init__(self, path: Path, levels: list[TiledLevel]) -> None:
        self._levels = levels
        self._file = path.open("rb", buffering=0)
        self._n_threads = min(_MOST_THREADS, _n_cores())
        self._lock = Lock()  # a place in the file belongs to one thread at a time
        self._tiles: OrderedDict[Place, np.ndarray] = OrderedDict()
        self._spare: dict[tuple[int, ...], list[np.ndarray]] = {}
        self._bytes = 0

    def decode(self, place: Place, out: np.ndarray | None = None) -> np.ndarray:
        """Decode the tile of `place` into `out`, contiguous uint8 (h, w, 3); whole, also beyond the border.

        Raises:
            UndecodableTile: it is missing in the file, or damaged.
        """
        level, row, column, scale = place
        width, height = (side // scale for side in self._levels[level].tile_px)
        stream = self.stream(level, row, column)
        if stream is None:
            raise UndecodableTile
        out = np.empty((height, width, 3), np.uint8) if out is None else out
        try:
            pixels = simplejpeg.decode_jpeg(
                stream, "RGB", min_width=width, min_height=height, min_factor=scale, buffer=out
            )
        except ValueError as error:
            raise UndecodableTile from error
        if pixels.shape != (height, width, 3):
            raise UndecodableTile
        return pixels

    def stream(self, level: int, row: int, column: int) -> bytes | None:
        """Return a tile as a whole JPEG, not decoded; None if it is missing."""
        of = self._levels[level]
        count = int(of.byte_counts[row, column])
        if not count:
            return None
        try:
            with self._lock:
                self._file.seek(int(of.offsets[row, column]))
                return of.stream(self._file.read(count))
        except OSError:
            return None

    def load(self, places: Iterable[Place]) -> None:
        """Decode those of `places` that are not there yet, in the file's order; broken ones stay out."""
        missing = []
        for place in sorted(set(places)):  # files hold tiles row by row
            if place in self._tiles:
                self._tiles.move_to_end(place)
            else:
                missing.append((place, self._buffer(place)))
        done = self.decode_all(missing)
        for (place, buffer), is_whole in zip(missing, done, strict=True):
            if is_whole:
                self._tiles[place] = buffer
                self._bytes += buffer.nbytes
            else:
                self._spare.setdefault(buffer.shape, []).append(buffer)

    def get(self, place: Place) -> np.ndarray | None:
        """Return a tile that was loaded, None if it could not be decoded."""
        return self._tiles.get(place)

    def trim(self) -> None:
        """Let go of the tiles not used for longest, down to the bound."""
        while self._bytes > _CACHE_BYTES:
            _, buffer = self._tiles.popitem(last=False)
            self._bytes -= buffer.nbytes
            self._spare.setdefault(buffer.shape, []).append(buffer)

    def close(self) -> None:
        """Let go of the file and of all tiles."""
        self._file.close()
        self._tiles.clear()
        self._spare.clear()

    def decode_all(self, jobs: Sequence[Job]) -> list[bool]:
        """Decode tiles into arrays, on all cores that this process may use; return which could be."""
        share = -(-len(jobs) // self._n_threads)
        if self._n_threads == 1 or share < _LEAST_SHARE:
            return self._decode_some(jobs)
        # a few long jobs: handing over each tile would cost as much as decoding it
        shares = [jobs[start : start + share] for start in range(0, len(jobs), share)]
        with ThreadPoolExecutor(self._n_threads) as pool:
            return [is_done for done in pool.map(self._decode_some, shares) for is_done in done]

    def _decode_some(self, jobs: Sequence[Job]) -> list[bool]:
        return [self._try(*job) for job in jobs]

    def _try(self, place: Place, out: np.ndarray) -> bool:
        try:
            self.decode(place, out)
        except UndecodableTile:
            return False
        return True

    def _buffer(self, place: Place) -> np.ndarray:
        """A fresh array for each tile would cost as much as decoding it: those let go are used again."""
        width, height = (side // place[3] for side in self._levels[place[0]].tile_px)
        spare = self._spare.get((height, width, 3))
        return spare.pop() if spare else np.empty((height, width, 3), np.uint8)


def _n_cores() -> int:
    """Cores that this process may use, which on a cluster are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
