"""Compressed tiles of a file: few large reads, in the file's order, and those needed next read meanwhile."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

_MOST_GAP_BYTES = 64 << 10  # to read over them costs less than to ask a network disk again
_SPAN_BYTES = 4 << 20
_AHEAD_BYTES = 16 << 20

Extent = tuple[int, int]  # where a tile begins in the file, and how many bytes it has


class TileBytes:
    """Reads tiles by their extents; what is expected is read by a thread, at most 32 MB of it are held."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = Lock()  # a place in the file belongs to one thread at a time
        self._thread = ThreadPoolExecutor(1, "read-ahead")
        # what is read now, and what is read next
        self._expected: deque[tuple[set[Extent], Future[dict[Extent, memoryview]]]] = deque(maxlen=2)

    def expect(self, extents: Iterable[Extent]) -> None:
        """Begin to read what will be asked for next."""
        fresh, total = set(), 0
        for span in _spans(sorted(set(extents).difference(*(known for known, _ in self._expected)))):
            total += _length(span)  # what lies between its tiles is held too
            if total > _AHEAD_BYTES:
                break
            fresh.update(span)
        if fresh:
            self._expected.append((fresh, self._thread.submit(self._read, sorted(fresh))))

    def read(self, extents: Iterable[Extent]) -> dict[Extent, memoryview]:
        """Return the bytes of each extent; they are fewer, or none, where the file cannot be read."""
        wanted = set(extents)
        found: dict[Extent, memoryview] = {}
        for known, reading in self._expected:
            if not wanted.isdisjoint(known):
                done = reading.result()
                found |= {extent: done[extent] for extent in wanted & known}
        return found | self._read(sorted(wanted - found.keys()))

    def _read(self, extents: list[Extent]) -> dict[Extent, memoryview]:
        found: dict[Extent, memoryview] = {}
        for span in _spans(extents):
            start = span[0][0]
            read = memoryview(self._read_span(start, _length(span)))
            found |= {(at, count): read[at - start : at - start + count] for at, count in span}
        return found

    def _read_span(self, start: int, count: int) -> bytes:
        try:
            with self._lock:
                self._file.seek(start)
                return self._file.read(count)
        except OSError:
            return b""

    def close(self) -> None:
        """Let go of the file and of what was read."""
        self._thread.shutdown(cancel_futures=True)
        self._expected.clear()
        self._file.close()


def _length(span: list[Extent]) -> int:
    return max(offset + count for offset, count in span) - span[0][0]


def _spans(extents: list[Extent]) -> Iterator[list[Extent]]:
    """Runs of sorted extents that are worth one read."""
    run: list[Extent] = []
    for extent in extents:
        stop = run[-1][0] + run[-1][1] if run else 0
        is_near = extent[0] - stop <= _MOST_GAP_BYTES
        if run and not (is_near and extent[0] + extent[1] - run[0][0] <= _SPAN_BYTES):
            yield run
            run = []
        run.append(extent)
    if run:
        yield run
