"""Feature bags: one HDF5 file a slide, one row a tile, in the grid's order (docs/formats.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiling import (
    ConfigError,
    FormatError,
    TileGrid,
    fingerprint,
    open_checked,
    read_array,
    read_header,
    refuse_other_tiles,
)

from .encoder import Encoder, EncoderConfig
from .instances import map_dataset

DTYPES = ("float16", "float32")


@dataclass(frozen=True, kw_only=True)
class BagConfig:
    """How feature bags are stored and filled."""

    dtype: str = field(default="float16", metadata={"help": "stored numbers: float16 or float32"})
    batch: int = field(default=0, metadata={"help": "patches encoded at a time; 0 is what suits the encoder"})
    save_patches: bool = field(default=False, metadata={"help": "keep the patches in the bags, as JPEG"})
    views: int = field(
        default=0,
        metadata={"help": "augmented views of each tile, encoded and kept for training; 0 is none"},
    )

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype is {self.dtype!r}", hint=f"choose from {', '.join(DTYPES)}")
        if self.batch < 0:
            raise ConfigError(
                f"batch is {self.batch}", hint="give 1 or more, or 0 for what suits the encoder"
            )
        if self.views < 0:
            raise ConfigError(f"views is {self.views}", hint="give 1 or more, or 0 for none")


@dataclass(frozen=True)
class FeatureBag:
    """All features of one slide: (N, D) float16 or float32, one row a tile.

    `coords` int64 (N, 2) are the tiles' level-0 corners; rows where `unreadable`, bool (N,), is true
    are zero and mean nothing. Features that are a view of a file are read-only.
    """

    slide_id: str
    features: np.ndarray
    coords: np.ndarray
    unreadable: np.ndarray
    encoder: str
    encoder_fingerprint: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        n, dim = self.features.shape
        return f"FeatureBag({self.slide_id!r}, {n} tiles × {dim} features of {self.encoder})"


def bag_fingerprint(grid_fingerprint: str, encoder: Encoder, config: BagConfig) -> str:
    """Return the fingerprint that the feature bag of a grid will have."""
    kept = ["patches"] if config.save_patches else []
    kept += [f"tokens {encoder.config.token_side}"] if encoder.config.token_side else []
    kept += [f"views {config.views}"] if config.views else []
    return fingerprint(grid_fingerprint, encoder.fingerprint, config.dtype, *kept)


def load_bag_configs(path: Path) -> tuple[EncoderConfig, BagConfig]:
    """Return how a bag was made; where the precision was chosen, the one that was.

    What belongs to the machine is left out: the path of the weights, which are known by the encoder's
    fingerprint, and the engine, as all of them agree within the precision.

    Raises:
        FormatError: the file is absent, damaged, or of another kind or version.
    """
    with open_checked(path, "features") as file:
        return bag_configs(read_header(file))


def bag_configs(header: Mapping[str, Any]) -> tuple[EncoderConfig, BagConfig]:
    """Return how a bag was made, as its header tells."""
    told = header["config"]
    return EncoderConfig(**_known(EncoderConfig, told["encoder"])), BagConfig(
        **_known(BagConfig, told["bag"])
    )


def _known(config: type, told: dict[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(config)} - {"weights", "engine"}
    return {name: value for name, value in told.items() if name in names}


def load_features(path: Path, *, grid: TileGrid | Path | None = None, mapped: bool = False) -> FeatureBag:
    """Read a feature bag; where a `grid` or its file is given, it has to be the one that the bag is of.

    `mapped` features are a view of the file, read when looked at, unless they are chunked or compressed.

    Raises:
        FormatError: the file is absent, damaged, of another kind or version, or its rows do not match.
    """
    with open_checked(path, "features") as file:
        if grid is not None:
            refuse_other_tiles(file, grid)
        told = read_header(file)
        features = _rows(file, "features", mapped=mapped)
        coords, unreadable = read_array(file, "coords"), read_array(file, "unreadable")
    if not len(features) == len(coords) == len(unreadable):
        raise FormatError(
            f"{path}: {len(features)} features, {len(coords)} coords, {len(unreadable)} unreadable flags",
            hint="extract this slide again",
        )
    return FeatureBag(
        slide_id=str(told["slide_id"]),
        features=features,
        coords=coords,
        unreadable=unreadable,
        encoder=str(told["encoder"]),
        encoder_fingerprint=str(told["encoder_fingerprint"]),
        fingerprint=str(told["fingerprint"]),
    )


def load_beside(path: Path, name: str, *, mapped: bool = False) -> np.ndarray:
    """Read what a bag holds beside its features, a row a tile: "views" (N, K, D) or "tokens" (N, S, S, D').

    `mapped` numbers are a view of the file, read when looked at, unless they are chunked or compressed.

    Raises:
        FormatError: the file is absent, damaged, of another kind or version, or was made without them.
    """
    with open_checked(path, "features") as file:
        if name not in file:
            raise FormatError(f"{path}: holds no {name}", hint=f"extract again with {_OPTIONS[name]}")
        return _rows(file, name, mapped=mapped)


def _rows(file: h5py.File, name: str, *, mapped: bool) -> np.ndarray:
    rows = map_dataset(file, name) if mapped else None
    return read_array(file, name) if rows is None else rows


_OPTIONS = {"views": "--views", "tokens": "--token-side"}
