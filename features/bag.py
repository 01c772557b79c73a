"""Feature bags: one HDF5 file a slide, one row a tile, in the grid's order (docs/formats.md)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiling import (
    ConfigError,
    FormatError,
    Slide,
    SlidebagError,
    SlideError,
    TileGrid,
    fingerprint,
    grid_attributes,
    open_checked,
    read_array,
    read_header,
    read_patches,
    replacing,
    write_coords,
    write_header,
)

from .encoder import Encoder, EncoderConfig
from .stored_patches import PatchStore

DTYPES = ("float16", "float32")


@dataclass(frozen=True, kw_only=True)
class BagConfig:
    """How feature bags are stored and filled."""

    dtype: str = field(default="float16", metadata={"help": "stored numbers: float16 or float32"})
    batch: int = field(default=64, metadata={"help": "patches encoded at a time"})
    save_patches: bool = field(default=False, metadata={"help": "keep the patches in the bags, as JPEG"})

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype is {self.dtype!r}", hint=f"choose from {', '.join(DTYPES)}")
        if self.batch < 1:
            raise ConfigError(f"batch is {self.batch}", hint="give 1 or more")


@dataclass(frozen=True)
class FeatureBag:
    """All features of one slide: (N, D) float16 or float32, one row a tile.

    `coords` int64 (N, 2) are the tiles' level-0 corners; rows where `unreadable`, bool (N,), is true
    are zero and mean nothing.
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
    kept = ("patches",) if config.save_patches else ()
    return fingerprint(grid_fingerprint, encoder.fingerprint, config.dtype, *kept)


def extract_features(
    slide: Slide,
    grid: TileGrid,
    encoder: Encoder,
    path: Path,
    *,
    encoder_config: EncoderConfig,
    config: BagConfig,
) -> int:
    """Encode all tiles of a grid into a feature bag at `path`; return how many were unreadable.

    Features go to disk batch by batch, so memory does not grow with the slide; the file takes its
    place only when whole.

    Raises:
        ConfigError: the grid's patches are not what the encoder wants.
        SlideError: no tile of the slide could be read.
        SlidebagError: the encoder yields NaN or infinity.
    """
    encoder.card.check_patch(grid.config.tile_px, grid.config.tile_mpp)
    unreadable = np.zeros(len(grid), bool)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        rows = file.create_dataset("features", (len(grid), encoder.card.dim), dtype=config.dtype)
        store = PatchStore(file, slide, grid) if config.save_patches else None
        for patches in read_patches(slide, grid, batch=config.batch):
            here = slice(patches.start, patches.start + len(patches))
            unreadable[here] = patches.unreadable
            rows[here] = _encode(encoder, patches.pixels, patches.unreadable, config.dtype, grid.slide_id)
            if store:
                store.add(patches)
        if len(grid) and unreadable.all():
            raise SlideError(
                f"{grid.slide_id}: none of its {len(grid)} tiles can be read",
                hint="copy the file again from its source; it is damaged or cut short",
            )
        file["unreadable"] = unreadable
        write_coords(file, grid)
        attributes = grid_attributes(grid) | {
            "encoder": encoder.card.name,
            "encoder_fingerprint": encoder.fingerprint,
            "dim": encoder.card.dim,
            "dtype": config.dtype,
            "precision": encoder.precision,
            "engine": encoder.engine,
            "n_unreadable": int(unreadable.sum()),
            "config": {
                "encoder": asdict(encoder_config) | {"precision": encoder.precision},
                "bag": asdict(config),
            },
            "fingerprint": bag_fingerprint(grid.fingerprint, encoder, config),
            "reader": slide.reader,
        }
        write_header(file, "features", attributes)
    return int(unreadable.sum())


def _encode(
    encoder: Encoder, pixels: np.ndarray, unreadable: np.ndarray, dtype: str, slide_id: str
) -> np.ndarray:
    features = np.zeros((len(pixels), encoder.card.dim), dtype)
    # out of float16's range becomes infinity here and is refused below
    with np.errstate(over="ignore"):
        features[~unreadable] = encoder.encode(pixels[~unreadable])
    if not np.isfinite(features).all():
        raise SlidebagError(
            f"{slide_id}: encoder {encoder.card.name} yields NaN or infinity in {dtype}",
            hint="use --dtype float32, or another --precision",
        )
    return features


def load_bag_configs(path: Path) -> tuple[EncoderConfig, BagConfig]:
    """Return how a bag was made; where the precision was chosen, the one that was.

    The weights are known by the encoder's fingerprint, not by where they once lay: the path is left out.

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
    names = {f.name for f in fields(config)} - {"weights"}
    return {name: value for name, value in told.items() if name in names}


def load_features(path: Path) -> FeatureBag:
    """Read a feature bag.

    Raises:
        FormatError: the file is absent, damaged, of another kind or version, or its rows do not match.
    """
    with open_checked(path, "features") as file:
        told = read_header(file)
        features, coords = read_array(file, "features"), read_array(file, "coords")
        unreadable = read_array(file, "unreadable")
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
