"""Rows of many bags by their number, out of memory maps: what batches that mix bags are drawn from."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from tiling import FormatError, SlidebagError, open_checked, read_array


class Instances:
    """All rows of some bags, one bag after the other, read from disk when asked for; read-only.

    Bag i has the rows `offsets[i]` to `offsets[i + 1]`, int64 (B + 1,). `unreadable` is bool (N,); rows
    where it is true mean nothing. Threads may share one, and so may processes after a fork.
    """

    def __init__(self, pieces: Sequence[np.ndarray], offsets: np.ndarray, unreadable: np.ndarray) -> None:
        """Take arrays (n, D), mapped or not, that, one after the other, are all rows; C-contiguous each."""
        self.offsets, self.unreadable = offsets, unreadable
        self.dim = pieces[0].shape[1] if pieces else 0
        self.dtype = pieces[0].dtype if pieces else np.dtype(np.float16)
        self._pieces = [piece for piece in pieces if len(piece)]
        lengths = np.array([len(piece) for piece in self._pieces], np.int64)
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths
        self._row_bytes = self.dim * self.dtype.itemsize
        if self._pieces:
            self._memory, addresses = _one_memory(self._pieces, self._row_bytes)
            self._row_zero = addresses - self._starts * self._row_bytes

    @classmethod
    def from_bags(cls, paths: Sequence[Path]) -> "Instances":
        """Map the features of some feature bags.

        Raises:
            FormatError: a file is no feature bag, or its features are chunked or compressed.
            SlidebagError: the bags are of different encoders, weights or dtypes.
        """
        pieces, unreadable, kinds = [], [], []
        for path in paths:
            piece, lost, encoder = _map_bag(path)
            pieces.append(piece)
            unreadable.append(lost)
            kinds.append(f"{encoder}, {piece.shape[1]} × {piece.dtype}")
            if kinds[-1] != kinds[0]:
                raise SlidebagError(
                    f"{path}: features of {kinds[-1]}, those of {paths[0]} are of {kinds[0]}",
                    hint="extract all slides with the same encoder, weights and --dtype",
                )
        offsets = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        return cls(pieces, offsets, np.concatenate([np.zeros(0, bool), *unreadable]))

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __repr__(self) -> str:
        return f"Instances({len(self)} rows × {self.dim} features of {len(self.offsets) - 1} bags)"

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Return a copy of some rows, (n, D), in the order of `indices`, int (n,).

        Raises:
            IndexError: there is no such row.
        """
        indices = np.asarray(indices, np.int64)
        if not len(indices):
            return np.empty((0, self.dim), self.dtype)
        if indices.min() < 0 or indices.max() >= len(self):
            raise IndexError(f"rows {indices.min()} to {indices.max()} were asked for, there are {len(self)}")
        piece = np.searchsorted(self._ends, indices, side="right")
        return self._memory[self._row_zero[piece] + indices * self._row_bytes].view(self.dtype)

    def bag(self, number: int) -> np.ndarray:
        """Return the rows of a bag, (N, D): a view of the file where it lies in one piece, else a copy.

        Raises:
            IndexError: there is no such bag.
        """
        if not 0 <= number < len(self.offsets) - 1:
            raise IndexError(f"bag {number} was asked for, there are {len(self.offsets) - 1}")
        low, high = self.offsets[number : number + 2].tolist()
        first, last = np.searchsorted(self._ends, [low, high], side="right").tolist()
        touched = zip(self._pieces[first : last + 1], self._starts[first : last + 1].tolist(), strict=True)
        parts = [piece[max(low - start, 0) : high - start] for piece, start in touched if high > start]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty((0, self.dim), self.dtype), *parts])


def _one_memory(pieces: Sequence[np.ndarray], row_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """All mapped pieces as one array of rows by byte, uint8 (span, row_bytes), and where each begins.

    One gather then serves rows of a thousand files; going from file to file takes three times as long.
    What lies between the pieces is in the array too, and never looked at: `rows` checks its indices.
    """
    addresses = np.array([piece.ctypes.data for piece in pieces], np.int64)
    first = int(addresses.min())
    n_bytes = max(piece.ctypes.data + piece.nbytes for piece in pieces) - first
    span = (ctypes.c_uint8 * n_bytes).from_address(first)
    memory = np.ndarray((n_bytes - row_bytes + 1, row_bytes), np.uint8, memoryview(span), strides=(1, 1))
    memory.flags.writeable = False
    return memory, addresses - first


class Place(NamedTuple):
    """Where numbers lie in a file, in the order of `map_rows`: what another process maps them again by."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class _MappedFile:
    """The first bytes of a file, as numpy takes them; each view of them knows it by its `base`."""

    path: Path
    content: Any

    @property
    def __array_interface__(self) -> dict[str, Any]:
        read_only = (self.content.data_ptr(), True)
        return {"version": 3, "shape": tuple(self.content.shape), "typestr": "|u1", "data": read_only}


def map_rows(path: Path, offset: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Map numbers that lie in a file from byte `offset` on, read-only; no file handle stays open.

    Raises:
        FormatError: the file is too short for them.
    """
    import torch  # here, not above: numpy's memory maps keep a handle each, torch's do not

    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not n_bytes:
        return np.empty(shape, dtype)
    if path.stat().st_size < offset + n_bytes:
        raise FormatError(
            f"{path}: holds {path.stat().st_size} bytes, wanted {offset + n_bytes}",
            hint="copy or make the file again; it is cut short",
        )
    content = torch.from_file(str(path), shared=False, size=offset + n_bytes, dtype=torch.uint8)
    return np.asarray(_MappedFile(path.absolute(), content))[offset:].view(dtype).reshape(shape)


def place_of(rows: np.ndarray) -> Place | None:
    """Return where rows from `map_rows` lie, or a slice of whole ones; None of others, copies among them."""
    base: Any = rows
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, _MappedFile) or not rows.flags.c_contiguous:
        return None
    return Place(base.path, rows.ctypes.data - base.content.data_ptr(), rows.shape, rows.dtype.str)


def map_dataset(file: h5py.File, name: str) -> np.ndarray | None:
    """Map a dataset, a row a tile, of an open file; None where it is not there, or chunked or compressed.

    Raises:
        FormatError: the file is too short for it.
    """
    dataset: Any = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        return None
    offset = dataset.id.get_offset()
    if offset is None and dataset.shape[0]:
        return None
    return map_rows(Path(file.filename), offset or 0, dataset.shape, dataset.dtype)


def _map_bag(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """The features and unreadable flags of a feature bag, and the encoder they are of."""
    with open_checked(path, "features") as file:
        told, unreadable = file.attrs, read_array(file, "unreadable")
        encoder = f"{told.get('encoder')} {told.get('encoder_fingerprint')}"
        features: Any = file.get("features")
        if features is None or features.ndim != 2 or len(features) != len(unreadable):
            raise FormatError(f"{path}: has no row of features a tile", hint="extract this slide again")
        mapped = map_dataset(file, "features")
    if mapped is None:
        raise FormatError(
            f"{path}: its features are chunked or compressed, so cannot be mapped",
            hint="extract this slide again, or pack the run",
        )
    return mapped, unreadable, encoder
