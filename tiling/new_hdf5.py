"""New HDF5 files, of which a full disk is an error like any other and not the end of the process."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from .files import replacing, unwritable


class NewHdf5(h5py.File):
    """An HDF5 file that is being written."""

    def __init__(self, stream: "_Stream", path: Path) -> None:
        self._stream, self._path = stream, path
        super().__init__(stream, "w")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tell at the block's end, and not only at the file's, that a write failed.

        Raises:
            WriteError: one did.
        """
        try:
            yield
        finally:
            if isinstance(self._stream.error, OSError):  # why the library fails, which misses what it wrote
                raise unwritable(self._path, self._stream.error) from self._stream.error


@contextmanager
def replacing_hdf5(path: Path) -> Iterator[NewHdf5]:
    """Yield a new HDF5 file that takes its place at `path` only if the block succeeds.

    Raises:
        WriteError: there is no space, or no permission to write there.
    """
    with replacing(path) as temporary, _Stream(temporary) as stream, NewHdf5(stream, path) as file:
        yield file


class _Stream(io.FileIO):
    """What the HDF5 library writes to: it is never told that a write failed, the user of the file is.

    A file that the library cannot flush is never closed, and it crashes when the process ends.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: BaseException | None = None

    def write(self, data) -> int:
        left = memoryview(data)
        try:
            while len(left) and self.error is None:
                left = left[super().write(left) :]
        except BaseException as error:  # noqa: BLE001  Ctrl-C too: it is raised at the end
            self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                return super().truncate(size)
        except BaseException as error:  # noqa: BLE001
            self.error = error
        return size or 0

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.error is not None:
            raise self.error
