"""Bags and grids whose every number is known."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from drawn_tiles import write_tiles
from pretrainings import config

from features import pretrain
from tiling import GridConfig, TileGrid, fingerprint, grid_attributes, save_grid, write_coords, write_header

Sources = dict[str, tuple[Path, Path]]


def write_bag(folder: Path, slide_id: str, features: np.ndarray, **datasets: np.ndarray) -> tuple[Path, Path]:
    """A grid and a bag of `features` in files; the first of three tiles and more is unreadable."""
    n, views = len(features), datasets["views"].shape[1] if "views" in datasets else 0
    grid = TileGrid(
        slide_id=slide_id, slide_path=f"/slides/{slide_id}.svs", slide_fingerprint="f" * 12,
        coords=np.stack([np.arange(n) * 256, np.full(n, 512)], axis=1).astype(np.int64),
        tissue_fraction=np.linspace(0, 1, n, dtype=np.float32),
        mpp=0.2628, mpp_source="csv", size_level0_px=(256 * max(n, 1), 1024), config=GridConfig(),
        level=1, read_px=122, tile_px_level0=487,
        tissue_polygons={"type": "MultiPolygon", "coordinates": [[[[0, 0], [n, 0], [n, n], [0, 0]]]]},
        origin="regions 0123",
    )  # fmt: skip
    grid_path, bag_path = folder / "tiles" / f"{slide_id}.h5", folder / "features" / f"{slide_id}.h5"
    save_grid(grid, grid_path, reader="phantom")
    bag_path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(bag_path, "w") as file:
        file["features"] = features
        file["unreadable"] = (np.arange(n) == 0) & (n > 2)
        for name, rows in datasets.items():
            file[name] = rows
        write_coords(file, grid)
        told = {
            "encoder": "mean-colour", "encoder_fingerprint": "e" * 12, "dim": features.shape[1],
            "dtype": str(features.dtype), "precision": "float32", "engine": "numpy", "n_unreadable": 1,
            "config": {
                "encoder": {"encoder": "mean-colour"},
                "bag": {"dtype": str(features.dtype), "views": views},
            },
            "fingerprint": fingerprint(slide_id, features.tolist()), "reader": "phantom",
        }  # fmt: skip
        write_header(file, "features", grid_attributes(grid) | told)
    return grid_path, bag_path


@pytest.fixture
def make_bags(tmp_path) -> Callable[..., Sources]:
    """Write bags of some lengths, the second one in a folder; no two rows are equal."""

    def make(*lengths: int, dim: int = 5, dtype: str = "float16", **datasets) -> Sources:
        rng = np.random.default_rng(0)
        made = {}
        for k, n in enumerate(lengths):
            slide_id = f"a/slide-{k}" if k == 1 else f"slide-{k}"
            features = rng.normal(size=(n, dim)).astype(dtype)
            extra = {name: rng.normal(size=(n, *tail)).astype(dtype) for name, tail in datasets.items()}
            made[slide_id] = write_bag(tmp_path, slide_id, features, **extra)
        return made

    return make


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """A folder of small tiles of two kinds."""
    return write_tiles(tmp_path_factory.mktemp("tiles"), 40)


@pytest.fixture(scope="module")
def trained(tiles, tmp_path_factory):
    """A folder that was trained in one go, and its steps."""
    folder, steps = tmp_path_factory.mktemp("trained") / "mine", []
    done = pretrain([tiles], folder, config(), report=steps.append)
    return done, steps
