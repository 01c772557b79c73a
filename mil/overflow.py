"""Features that do not fit into memory and lie in no file that can be mapped: put into one that can."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tiling import check_room


def in_one_file(arrays: Sequence[np.ndarray], folder: Path | None) -> list[np.ndarray]:
    """Return the arrays as read-only views of one mapped file in `folder`, the system's own if None.

    The file has no name any more, so it goes with the last view, however the process ends.

    Raises:
        WriteError: there is no room for them.
    """
    place = Path(tempfile.gettempdir()) if folder is None else folder
    check_room(place, sum(array.nbytes for array in arrays), "what of the features does not fit into memory")
    handle, name = tempfile.mkstemp(dir=place, prefix=".features.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            for array in arrays:
                array.tofile(file)
        whole = np.asarray(np.memmap(name, np.uint8, "r"))
    finally:
        Path(name).unlink()
    ends = np.cumsum([array.nbytes for array in arrays])
    parts = np.split(whole, ends[:-1])
    return [part.view(array.dtype).reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
