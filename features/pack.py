"""Packing: the feature bags and grids of a cohort into one zarr group, slide by slide."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiling import (
    ConfigError,
    FormatError,
    SlidebagError,
    fingerprint,
    format_attributes,
    load_grid,
    open_checked,
    read_array,
    read_header,
    refuse_other_tiles,
    replacing_folder,
    stored_fingerprint,
)

from .store import store_fingerprint, zarr_place

_CHUNK_BYTES = 1 << 20  # what is fetched at least where a store is not local
_CHUNKS_A_SHARD = 64
_READ_BYTES = 1 << 24
_UNFINISHED = "slidebag.store, unfinished"

Sources = Mapping[str, tuple[Path, Path]]


def pack_features(
    sources: Sources, address: Path | str, *, advance: Callable[[str], None] | None = None
) -> bool:
    """Write bags into a store at `address`; return False where it held just these already.

    `sources` are the files (grid, bag) of each slide by its id; `advance` is called after each.
    Memory does not grow with the cohort. The store is there when it is whole: a local one takes the
    place of an older one then, another one has no attributes before.

    Raises:
        ConfigError: something else lies at `address`.
        FormatError: a file is missing or damaged, or a bag is of other tiles than its grid.
        SlidebagError: there is no bag, or the bags are of different encoders, weights or dtypes.
    """
    expected = _fingerprint(sources)
    if not sources:
        raise SlidebagError("there is nothing to pack", hint="run `slidebag extract` first")
    if store_fingerprint(address) == expected:
        return False
    _check_place(str(address))
    with _replacing(str(address)) as group:
        writer = _Writer(group)
        for slide_id, (grid_path, bag_path) in sources.items():
            with open_checked(grid_path, "grid") as grid, open_checked(bag_path, "features") as bag:
                refuse_other_tiles(bag, load_grid(grid_path))
                writer.add(slide_id, grid, bag)
            if advance is not None:
                advance(slide_id)
        group.update_attributes(format_attributes("store") | writer.finish() | {"fingerprint": expected})
    return True


def _fingerprint(sources: Sources) -> str:
    return fingerprint([[i, *map(stored_fingerprint, paths)] for i, paths in sources.items()])


def _check_place(address: str) -> None:
    """Nothing but a store, whole or not, is ever written over."""
    import fsspec.core
    import zarr

    files, path = fsspec.core.url_to_fs(address)
    if not files.exists(path) or (files.isdir(path) and not files.ls(path)):
        return
    try:
        found = zarr.open_group(zarr_place(address, read_only=True), mode="r").attrs.get("format")
    except (OSError, ValueError):
        found = None
    if found not in ("slidebag.store", _UNFINISHED):
        raise ConfigError(f"{address}: is there already and no packed store", hint="name another place")


@contextmanager
def _replacing(address: str) -> Iterator[Any]:
    """A new group at `address`, or beside it until it is whole where that is a local folder."""
    if "://" in address:
        yield _new_group(address)
        return
    with replacing_folder(Path(address)) as temporary:
        yield _new_group(str(temporary))


def _new_group(address: str) -> Any:
    import zarr

    place = zarr_place(address, read_only=False)
    return zarr.create_group(place, overwrite=True, attributes={"format": _UNFINISHED})


class _Writer:
    """Gathers the rows of all bags by dataset."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self._columns: dict[str, _Column] = {}
        self._first: dict[str, Any] = {}
        self._slides: list[str] = []
        self._offsets = [0]
        self._n_polygon_bytes = 0

    def add(self, slide_id: str, grid: h5py.File, bag: h5py.File) -> None:
        """Append a slide; the bag's rows are read piece by piece."""
        told, grid_told = _plain(read_header(bag)), _plain(read_header(grid))
        rows = _row_datasets(bag) | {"tissue_fraction": _dataset(grid, "tissue_fraction")}
        self._check_alike(slide_id, told, rows)
        for name, dataset in rows.items():
            self._column(name, dataset).extend(dataset)
        polygons = np.frombuffer(_text(read_array(grid, "tissue/polygons")), np.uint8)
        self._column("polygons", polygons).extend(polygons)
        begin, self._n_polygon_bytes = self._n_polygon_bytes, self._n_polygon_bytes + len(polygons)
        line = {"bag": told, "grid": grid_told, "polygons": [begin, self._n_polygon_bytes]}
        self._slides.append(json.dumps(line) + "\n")
        self._offsets.append(self._offsets[-1] + len(rows["features"]))

    def _check_alike(self, slide_id: str, told: dict[str, Any], rows: dict[str, Any]) -> None:
        kinds = {name: f"{dataset.shape[1:]} {dataset.dtype}" for name, dataset in rows.items()}
        found = {key: told[key] for key in ("encoder", "encoder_fingerprint")} | kinds
        self._first = self._first or found
        for key in self._first | found:
            if found.get(key) != self._first.get(key):
                raise SlidebagError(
                    f"{slide_id}: {key} is {found.get(key)}, of the slides before {self._first.get(key)}",
                    hint="extract all slides of the run with the same encoder, weights and options",
                )

    def _column(self, name: str, like: Any) -> "_Column":
        if name not in self._columns:
            self._columns[name] = _Column(self._group, name, like.shape[1:], like.dtype)
        return self._columns[name]

    def finish(self) -> dict[str, Any]:
        """Write what is left; return the attributes of the whole."""
        slides = np.frombuffer("".join(self._slides).encode(), np.uint8)
        for name, data in (("slides", slides), ("offsets", np.array(self._offsets, np.int64))):
            self._column(name, data).extend(data)
        for column in self._columns.values():
            column.flush()
        return {
            "encoder": self._first["encoder"],
            "encoder_fingerprint": self._first["encoder_fingerprint"],
            "n_slides": len(self._slides),
            "n_tiles": self._offsets[-1],
        }


class _Column:
    """One array that grows shard by whole shard, so that none is written twice."""

    def __init__(self, group: Any, name: str, tail: tuple[int, ...], dtype: np.dtype) -> None:
        row_bytes = max(1, int(np.prod(tail)) * dtype.itemsize)
        n_rows = max(1, _CHUNK_BYTES // row_bytes)
        self._array = group.create_array(
            name,
            shape=(0, *tail),
            chunks=(n_rows, *(max(1, side) for side in tail)),
            shards=(n_rows * _CHUNKS_A_SHARD, *(max(1, side) for side in tail)),
            dtype=dtype,
            compressors=None,
            filters=None,
            config={"write_empty_chunks": True},  # else zeros are left out, and rows no longer adjoin
        )
        self._buffer = np.empty((self._array.shards[0], *tail), dtype)
        self._n_buffered = 0
        self._step = max(1, _READ_BYTES // row_bytes)

    def extend(self, rows: Any) -> None:
        """Append the rows of an array or HDF5 dataset."""
        start = 0
        while start < len(rows):
            n = min(self._step, len(rows) - start, len(self._buffer) - self._n_buffered)
            self._buffer[self._n_buffered : self._n_buffered + n] = rows[start : start + n]
            start, self._n_buffered = start + n, self._n_buffered + n
            if self._n_buffered == len(self._buffer):
                self.flush()

    def flush(self) -> None:
        """Write the rows gathered so far."""
        if self._n_buffered:
            self._array.append(self._buffer[: self._n_buffered])
            self._n_buffered = 0


def _row_datasets(bag: h5py.File) -> dict[str, Any]:
    """The datasets with a row of numbers a tile; stored patches, of any length each, stay in the bags."""
    n_rows = len(_dataset(bag, "features"))
    found = {str(name): item for name, item in bag.items() if isinstance(item, h5py.Dataset)}
    return {name: d for name, d in found.items() if d.shape[:1] == (n_rows,) and d.dtype.kind in "biuf"}


def _dataset(file: h5py.File, name: str) -> Any:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise FormatError(f"{file.filename}: has no dataset {name!r}", hint="make the file again")
    return dataset


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as JSON holds them."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in told.items()}
