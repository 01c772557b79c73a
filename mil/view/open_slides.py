"""Slides that are being looked at: a few stay open, each read by one request at a time."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock

from tiling import DeepZoom, open_slide

_MOST_OPEN = 4
_MOST_SQUARES = 1024  # of about 30 kB each


class _Entry:
    """One slide, open from the first time that it is read until it is closed."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.zoom: DeepZoom | None = None

    def close(self) -> None:
        with self.lock:
            if self.zoom is not None:
                self.zoom.slide.close()
            self.zoom = None


class OpenSlides:
    """Open slides and squares of them, within bounds; may be used from several threads."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Path, _Entry] = OrderedDict()
        self._lock = Lock()
        self.jpeg = lru_cache(_MOST_SQUARES)(self._jpeg)

    def _jpeg(self, path: Path, halvings: int, column: int, row: int) -> bytes:
        """Return a square of a slide; raises as `DeepZoom.jpeg` and `open_slide`."""
        with self.opened(path) as zoom:
            return zoom.jpeg(halvings, column, row)

    @contextmanager
    def opened(self, path: Path) -> Iterator[DeepZoom]:
        """Yield a slide that nobody else reads meanwhile; raises as `open_slide`."""
        with self._lock:
            entry = self._entries.setdefault(path, _Entry())
            self._entries.move_to_end(path)
            n_old = len(self._entries) - _MOST_OPEN
            old = [self._entries.popitem(last=False)[1] for _ in range(n_old)]
        for other in old:
            other.close()
        try:
            with entry.lock:
                if entry.zoom is None:
                    entry.zoom = DeepZoom(open_slide(path))
                yield entry.zoom
        finally:
            with self._lock:
                is_kept = self._entries.get(path) is entry
            if not is_kept:  # it was pushed out while it waited for its turn
                entry.close()

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
        for entry in entries:
            entry.close()
        self.jpeg.cache_clear()
