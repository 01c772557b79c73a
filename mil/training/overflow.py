"""Features that do not fit into memory, or that several processes read, put into files that can be mapped."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from features import map_rows
from tiling import check_room

_NEEDED_S = 24 * 3600  # that a training may take before `tiling.sweep` takes its files for left over


@contextmanager
def overflow(folder: Path) -> Iterator[Callable[[Sequence[np.ndarray]], list[np.ndarray]]]:
    """Yield what returns arrays as read-only views of one mapped file in `folder`, gone at the end.

    It raises WriteError where there is no room for them.
    """
    paths: list[Path] = []

    def to_file(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        check_room(folder, sum(array.nbytes for array in arrays), "what of the features cannot be mapped")
        handle, name = tempfile.mkstemp(dir=folder, prefix=".features.", suffix=".partial")
        paths.append(Path(name))
        with os.fdopen(handle, "wb") as file:
            for array in arrays:
                array.tofile(file)
        # workers open it by name whenever a fit begins, and another verb may sweep the folder meanwhile
        needed_until = time.time() + _NEEDED_S
        os.utime(name, (needed_until, needed_until))
        return _parts(paths[-1], arrays)

    try:
        yield to_file
    finally:
        for path in paths:
            with suppress(PermissionError):  # Windows removes no file that is mapped still; `sweep` will
                path.unlink(missing_ok=True)


def _parts(path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Arrays that lie in a file one after the other."""
    ends = np.cumsum([array.nbytes for array in arrays])
    parts = np.split(map_rows(path, 0, (int(ends[-1]),), np.uint8), ends[:-1])
    return [part.view(array.dtype).reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
