"""Features out of other tools' files: what each tool calls them, and of which encoder it says they are."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiling import (
    COORDS_FORMATS,
    ConfigError,
    FormatError,
    TileGrid,
    extractor_name,
    fingerprint,
    grid_attributes,
    replacing_hdf5,
    side_level0_px,
    stored_fingerprint,
    write_coords,
    write_header,
)

_ENCODER = "--encoder NAME"


@dataclass(frozen=True)
class OtherBag:
    """Another tool's features of a slide, (N, D), and of which encoder they are.

    `corners` int64 (N, 2) are the tiles' level-0 corners; None where the file has no places.
    """

    features: np.ndarray
    corners: np.ndarray | None
    encoder: str


@dataclass(frozen=True)
class FeaturesFormat:
    """Where a tool keeps features: endings of its files, the best first, and the name in an HDF5 file."""

    endings: tuple[str, ...]
    dataset: str
    told_encoder: Callable[[Path, h5py.File | None], str]


def _told_by_trident(path: Path, file: h5py.File | None) -> str:
    told = file["features"].attrs.get("encoder", "") if file is not None and "features" in file else ""
    folder = path.parent.name
    return _word(told) or (folder.removeprefix("features_") if folder.startswith("features_") else "")


def _told_by_atlaspatch(path: Path, file: h5py.File | None) -> str:
    group = file.get("features") if file is not None else None
    names = sorted(group) if isinstance(group, h5py.Group) else []
    if len(names) > 1:
        raise ConfigError(f"{path}: holds features of {', '.join(names)}", hint=f"choose with {_ENCODER}")
    return names[0] if names else ""


FEATURES_FORMATS = {
    "atlaspatch": FeaturesFormat((".h5",), "features/{encoder}", _told_by_atlaspatch),
    "clam": FeaturesFormat((".h5", ".pt"), "features", lambda path, file: ""),
    "slideflow": FeaturesFormat((".pt",), "", lambda path, file: extractor_name(path.parent)),
    "stamp": FeaturesFormat(
        (".h5",), "feats", lambda path, file: _word(file.attrs.get("extractor")) if file else ""
    ),
    "trident": FeaturesFormat((".h5", ".pt"), "features", _told_by_trident),
}


def _word(told: Any) -> str:
    text = told.decode() if isinstance(told, bytes) else str(told or "")
    return "" if text == "None" else text


def read_other_bag(path: Path, format: str, grid: TileGrid, encoder: str = "") -> OtherBag:
    """Read another tool's features of the slide of `grid`; `encoder` names it where the file does not.

    Raises:
        ConfigError: the file does not tell the encoder, or holds several.
        FormatError: the file is not in that layout, or its features are not numbers.
    """
    tool = FEATURES_FORMATS[format]
    if path.suffix == ".pt":
        name = encoder or tool.told_encoder(path, None)
        features = _load_tensor(path)
    else:
        features, name = _load_dataset(path, tool, encoder)
    if not name:
        raise ConfigError(f"{path}: does not tell whose features it holds", hint=f"give {_ENCODER}")
    if features.ndim == 3 and len(features) == 1:  # as slide encoders take them
        features = features[0]
    if features.ndim != 2 or features.dtype.kind != "f" or not np.isfinite(features).all():
        raise FormatError(
            f"{path}: features are {features.shape} {features.dtype}, wanted finite (N, D)",
            hint="check --format, and make the file again",
        )
    if features.dtype != np.float16:
        features = features.astype(np.float32)
    return OtherBag(features, _corners(path, format, grid, len(features)), name)


def _load_dataset(path: Path, tool: FeaturesFormat, encoder: str) -> tuple[np.ndarray, str]:
    try:
        with h5py.File(path, "r") as file:
            name = encoder or tool.told_encoder(path, file)
            dataset: Any = file.get(tool.dataset.format(encoder=name))
            if not isinstance(dataset, h5py.Dataset):
                raise FormatError(
                    f"{path}: has no dataset {tool.dataset.format(encoder=name)!r}",
                    hint=f"name the folder of features, check --format and {_ENCODER}",
                )
            return dataset[()], name
    except OSError as error:
        raise FormatError(f"{path}: not a readable HDF5 file ({error})", hint="copy it again") from error


def _load_tensor(path: Path) -> np.ndarray:
    import pickle

    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise FormatError(
            f"{path}: not a tensor that can be read safely ({type(error).__name__})",
            hint="save the bare features with torch.save",
        ) from error
    if not isinstance(loaded, torch.Tensor):
        raise FormatError(f"{path}: holds a {type(loaded).__name__}, wanted a tensor", hint="check --format")
    return (loaded.float() if loaded.dtype == torch.bfloat16 else loaded).detach().numpy()


def _corners(path: Path, format: str, grid: TileGrid, n_rows: int) -> np.ndarray | None:
    if format == "slideflow":
        path = path.with_name(f"{path.name.removesuffix('.pt')}.index.npz")
    elif path.suffix == ".pt":
        return None
    corners = COORDS_FORMATS[format].load_corners(path, grid.mpp, side_level0_px(grid))
    if len(corners) != n_rows:
        raise FormatError(
            f"{path}: {len(corners)} tiles for {n_rows} rows of features", hint="make the files again"
        )
    return corners


def save_other_bag(bag: OtherBag, grid: TileGrid, path: Path, format: str) -> bool:
    """Write another tool's features as a feature bag of `grid`; return False where it is there already.

    Features in another order of tiles are put into the grid's. Their fingerprint is of the tool and the
    encoder's name, so that they are never taken for features that slidebag computed.

    Raises:
        FormatError: they are of other tiles than the grid has.
    """
    features = bag.features[_order(bag, grid)]
    encoder_fingerprint = _imported(format, bag.encoder)
    content = hashlib.sha256(features.tobytes()).hexdigest()
    expected = fingerprint(grid.fingerprint, encoder_fingerprint, str(features.dtype), content)
    if stored_fingerprint(path) == expected:
        return False
    with replacing_hdf5(path) as file:
        file["features"] = features
        file["unreadable"] = np.zeros(len(features), bool)
        write_coords(file, grid)
        attributes = grid_attributes(grid) | {
            "encoder": bag.encoder,
            "encoder_fingerprint": encoder_fingerprint,
            "dim": features.shape[1],
            "dtype": str(features.dtype),
            "precision": "unknown",
            "engine": format,
            "n_unreadable": 0,
            "config": {"encoder": {"encoder": bag.encoder}, "bag": {"dtype": str(features.dtype)}},
            "fingerprint": expected,
            "reader": "",
        }
        write_header(file, "features", attributes)
    return True


def imported_from(encoder: str, encoder_fingerprint: str) -> str | None:
    """Return the tool whose features of `encoder` have this fingerprint; None where they are no import."""
    found = (tool for tool in FEATURES_FORMATS if _imported(tool, encoder) == encoder_fingerprint)
    return next(found, None)


def _imported(format: str, encoder: str) -> str:
    return fingerprint("imported", format, encoder)


def _order(bag: OtherBag, grid: TileGrid) -> np.ndarray:
    """Which row of the features is of which tile, int (N,)."""
    if bag.corners is None:
        if len(bag.features) != len(grid):
            raise FormatError(
                f"{grid.slide_id}: {len(bag.features)} rows of features for {len(grid)} tiles",
                hint="name the coordinates that the features were made from",
            )
        return np.arange(len(grid))
    theirs, ours = (np.lexsort(places.T) for places in (bag.corners, grid.coords))
    if not np.array_equal(bag.corners[theirs], grid.coords[ours]):
        raise FormatError(
            f"{grid.slide_id}: its features are of other tiles than its grid has",
            hint="name the coordinates that the features were made from",
        )
    order = np.empty(len(grid), int)
    order[ours] = theirs
    return order
