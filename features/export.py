"""Features into other tools' files, each where its tool looks for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from tiling import (
    COORDS_FORMATS,
    Hdf5Format,
    TileGrid,
    export_grid,
    replacing,
    replacing_hdf5,
    write_attribute,
    write_bags_config,
    write_coords,
)


def export_bag(folder: Path, format: str, grid: TileGrid, features: np.ndarray, encoder: str) -> bool:
    """Write (N, D) features of a grid's tiles, and the tiles, below `folder`; False where a tool writes none.

    Raises:
        ConfigError: there is no such format.
        ValueError: there are not as many features as tiles.
    """
    if len(features) != len(grid):
        raise ValueError(f"{grid.slide_id}: {len(features)} features for {len(grid)} tiles")
    if not len(grid) and not COORDS_FORMATS[format].has_empty_files:
        return False
    _WRITERS[format](folder, grid, features, encoder)
    return True


def _write_atlaspatch(folder: Path, grid: TileGrid, features: np.ndarray, encoder: str) -> None:
    with _tiles(folder / "patches" / f"{grid.slide_id}.h5", "atlaspatch", grid) as file:
        file.require_group("features").create_dataset(encoder, data=features.astype(np.float32))


def _write_clam(folder: Path, grid: TileGrid, features: np.ndarray, encoder: str) -> None:
    export_grid(grid, folder / "patches" / f"{grid.slide_id}.h5", "clam")
    rows = features.astype(np.float32)
    with _new_file(folder / "h5_files" / f"{grid.slide_id}.h5") as file:
        file["features"], file["coords"] = rows, grid.coords.astype(np.int32)
    _write_tensor(folder / "pt_files" / f"{grid.slide_id}.pt", rows)


def _write_slideflow(folder: Path, grid: TileGrid, features: np.ndarray, encoder: str) -> None:
    index = folder / f"{grid.slide_id}.index.npz"
    export_grid(grid, index, "slideflow")
    write_bags_config(index.parent, grid, dim=features.shape[1], encoder=encoder)
    _write_tensor(folder / f"{grid.slide_id}.pt", features.astype(np.float32))


def _write_stamp(folder: Path, grid: TileGrid, features: np.ndarray, encoder: str) -> None:
    with _tiles(folder / encoder / f"{grid.slide_id}.h5", "stamp", grid) as file:
        with np.errstate(over="ignore"):  # what float16 does not hold becomes infinity, as it does in STAMP
            file["feats"] = features.astype(np.float16)
        write_attribute(file, "extractor", encoder)


def _write_trident(folder: Path, grid: TileGrid, features: np.ndarray, encoder: str) -> None:
    export_grid(grid, folder / "patches" / f"{grid.slide_id}_patches.h5", "trident")
    place = f"features_{encoder}"
    with _new_file(folder / place / f"{grid.slide_id}.h5") as file:
        data = file.create_dataset("features", data=features)
        for name, value in {"name": grid.slide_id, "savetodir": place, "encoder": encoder}.items():
            write_attribute(data, name, value)
        write_attribute(write_coords(file, grid), "savetodir", "patches")


_WRITERS = {
    "atlaspatch": _write_atlaspatch,
    "clam": _write_clam,
    "slideflow": _write_slideflow,
    "stamp": _write_stamp,
    "trident": _write_trident,
}


@contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    with replacing_hdf5(path) as file:
        yield file


@contextmanager
def _tiles(path: Path, format: str, grid: TileGrid) -> Iterator[h5py.File]:
    """A new file of a tool that keeps tiles and features in one, with the tiles in it."""
    layout = COORDS_FORMATS[format]
    assert isinstance(layout, Hdf5Format)
    with _new_file(path) as file:
        layout.fill(file, grid)
        yield file


def _write_tensor(path: Path, rows: np.ndarray) -> None:
    import torch

    with replacing(path) as temporary:
        torch.save(torch.from_numpy(np.array(rows)), temporary)
