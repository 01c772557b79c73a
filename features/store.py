"""A packed store: the feature bags of a cohort as one zarr group, at any address (docs/formats.md)."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tiling import FormatError, TileGrid, check_format, grid_from

from .bag import BagConfig, FeatureBag, bag_configs
from .encoder import EncoderConfig
from .instances import Instances, map_rows


class FeatureStore:
    """The bags of a cohort in one place: a local folder, or what fsspec opens (s3://, memory://, ...).

    Raises FormatError where there is no whole store of a version that this slidebag reads.
    """

    def __init__(self, address: Path | str) -> None:
        self.address = str(address)
        self._group = _open(self.address)
        told = dict(self._group.attrs)
        self.encoder, self.encoder_fingerprint = str(told["encoder"]), str(told["encoder_fingerprint"])
        self.fingerprint = str(told["fingerprint"])
        self._offsets = self._array("offsets")[:]
        lines = self._array("slides")[:].tobytes().decode().splitlines()
        self._slides = [json.loads(line) for line in lines]
        self._maps: dict[str, Instances | None] = {}
        self._numbers = {str(slide["bag"]["slide_id"]): k for k, slide in enumerate(self._slides)}

    def __len__(self) -> int:
        return len(self._slides)

    def __contains__(self, slide_id: object) -> bool:
        return slide_id in self._numbers

    def __repr__(self) -> str:
        return f"FeatureStore({self.address!r}, {len(self)} bags, {self._offsets[-1]} tiles, {self.encoder})"

    @property
    def slide_ids(self) -> tuple[str, ...]:
        """The slides, in the order of their rows."""
        return tuple(self._numbers)

    def bag(self, slide_id: str) -> FeatureBag:
        """Return the bag of a slide, equal to what `load_features` gave of its file; FormatError if none.

        Its features are a view of the store where that is local.
        """
        told, rows = self.header(slide_id), self._rows(slide_id)
        return FeatureBag(
            slide_id=slide_id,
            features=self._lying("features", slide_id),
            coords=self._read("coords", slide_id),
            unreadable=self._unreadable[rows],
            encoder=str(told["encoder"]),
            encoder_fingerprint=str(told["encoder_fingerprint"]),
            fingerprint=str(told["fingerprint"]),
        )

    def grid(self, slide_id: str) -> TileGrid:
        """Return the grid of a slide, equal to what `load_grid` gave of its file; FormatError if none."""
        slide, rows = self._slides[self._number(slide_id)], self._rows(slide_id)
        low, high = slide["polygons"]
        polygons = json.loads(self._array("polygons")[low:high].tobytes())
        fraction = self._array("tissue_fraction")[rows]
        return grid_from(slide["grid"], self._read("coords", slide_id), fraction, polygons)

    def header(self, slide_id: str) -> Mapping[str, Any]:
        """Return the attributes of the bag's file; raises FormatError if there is no such bag."""
        return self._slides[self._number(slide_id)]["bag"]

    def grid_fingerprint(self, slide_id: str) -> str:
        """Return the fingerprint of the slide's grid; raises FormatError if there is no such bag."""
        return str(self._slides[self._number(slide_id)]["grid"]["fingerprint"])

    def configs(self, slide_id: str) -> tuple[EncoderConfig, BagConfig]:
        """Return how a bag was made, as `load_bag_configs` does; raises FormatError if there is none."""
        return bag_configs(self.header(slide_id))

    def rows_of(self, name: str, slide_id: str) -> np.ndarray:
        """Return a slide's rows of another dataset of the bags, such as `views` or `tokens`.

        Raises:
            FormatError: there is no such dataset, or no such bag.
        """
        return np.asarray(self._array(name)[self._rows(slide_id)])

    def views(self, slide_id: str) -> np.ndarray | None:
        """Return the features of views of a slide's tiles, (N, K, D), if they were kept.

        They are a view of the store where that is local. Raises FormatError if there is no such bag.
        """
        return self._lying("views", slide_id) if self.configs(slide_id)[1].views else None

    def instances(self) -> Instances:
        """Return the rows of all bags, mapped.

        Raises:
            FormatError: the store is not local, or was compressed by another program.
        """
        mapped = self._mapped("features")
        if mapped is None:
            raise FormatError(
                f"{self.address}: its features cannot be mapped",
                hint="copy it to a local folder as `slidebag pack` wrote it",
            )
        return mapped

    def _read(self, name: str, slide_id: str) -> np.ndarray:
        """A slide's rows of a dataset in memory, by the quickest way that the place allows."""
        mapped = self._mapped(name)
        return self.rows_of(name, slide_id) if mapped is None else np.array(self._lying(name, slide_id))

    def _lying(self, name: str, slide_id: str) -> np.ndarray:
        """A slide's rows of a dataset: a view of the store where that is local."""
        mapped = self._mapped(name)
        if mapped is None:
            return self.rows_of(name, slide_id)
        return mapped.bag(self._number(slide_id)).reshape(-1, *self._array(name).shape[1:])

    def _mapped(self, name: str) -> Instances | None:
        if name not in self._maps:
            folder = Path(self.address) / name
            pieces = _map_shards(folder, self._array(name)) if folder.is_dir() else None
            self._maps[name] = None if pieces is None else Instances(pieces, self._offsets, self._unreadable)
        return self._maps[name]

    @cached_property
    def _unreadable(self) -> np.ndarray:
        return self._array("unreadable")[:]

    def _array(self, name: str) -> Any:
        array = self._group.get(name)
        if array is None:
            raise FormatError(f"{self.address}: has no array {name!r}", hint="pack again")
        return array

    def _number(self, slide_id: str) -> int:
        if slide_id not in self._numbers:
            raise FormatError(f"{slide_id}: is not in {self.address}", hint="pack the run again")
        return self._numbers[slide_id]

    def _rows(self, slide_id: str) -> slice:
        number = self._number(slide_id)
        return slice(*self._offsets[number : number + 2].tolist())


def zarr_place(address: str, *, read_only: bool) -> Any:
    """Return the zarr store of a local folder or an fsspec address.

    Raises:
        FormatError: there is no such kind of address, or it needs a package that is not installed.
    """
    from zarr.storage import FsspecStore, LocalStore

    if "://" not in address:
        return LocalStore(address, read_only=read_only)
    try:
        return FsspecStore.from_url(address, read_only=read_only)
    except (ImportError, ValueError) as error:
        raise FormatError(
            f"{address}: cannot be opened ({error})", hint="install the fsspec package of such addresses"
        ) from error


def store_fingerprint(address: Path | str) -> str | None:
    """Return the fingerprint of the whole store at an address, None where there is none to trust."""
    try:
        return str(_open(str(address)).attrs["fingerprint"])
    except (FormatError, KeyError):
        return None


def _open(address: str) -> Any:
    import zarr

    try:
        group = zarr.open_group(zarr_place(address, read_only=True), mode="r")
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{address}: no packed store there ({error})", hint="make one with `slidebag pack`"
        ) from error
    check_format(group.attrs, "store", address)
    return group


def _map_shards(folder: Path, array: Any) -> list[np.ndarray] | None:
    """The rows of each shard, (n, numbers of a row).

    None if a shard is not rows one after the other with an index behind.
    """
    if array.compressors or array.filters or array.shards is None:
        return None
    shard_rows, chunk_rows = array.shards[0], array.chunks[0]
    n_numbers = int(np.prod(array.shape[1:]))
    n_chunks, n_bytes = shard_rows // chunk_rows, chunk_rows * n_numbers * array.dtype.itemsize
    pieces = []
    for k, start in enumerate(range(0, array.shape[0], shard_rows)):
        path = folder.joinpath("c", str(k), *["0"] * (array.ndim - 1))
        n_rows = min(shard_rows, array.shape[0] - start)
        n_filled = -(-n_rows // chunk_rows)
        index = _shard_index(path, n_chunks)[:n_filled]
        if not np.array_equal(index[:, 0], np.arange(n_filled) * n_bytes) or (index[:, 1] != n_bytes).any():
            return None
        pieces.append(map_rows(path, 0, (n_rows, n_numbers), array.dtype.newbyteorder("<")))
    return pieces or [np.empty((0, n_numbers), array.dtype)]


def _shard_index(path: Path, n_chunks: int) -> np.ndarray:
    """Offset and length in bytes of each chunk of a shard, uint64 (n_chunks, 2); a checksum of 4 follows."""
    n_bytes = 16 * n_chunks
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < n_bytes + 4:
            raise FormatError(f"{path}: cut short", hint="copy the store again, or pack again")
        file.seek(size - n_bytes - 4)
        return np.frombuffer(file.read(n_bytes), "<u8").reshape(-1, 2)
