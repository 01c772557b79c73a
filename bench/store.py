"""How fast features come back from the bags and from the packed store, beside memory itself.

Draws 1,000 bags, packs them, and reads them in interleaved rounds, each in another order. Files are warm: it
is the way that is measured, not the disk. Whole bags are measured against a copy in memory; random rows of
all bags, of which batches of the instance learner are made, against those of one array in memory.

    python bench/store.py [--bags 1000] [--tiles 480] [--dim 1024] [--json]

About 1 GB at a time in a temporary folder and as much in memory. The last line is one JSON object: medians of
CPU time, whole bags in GB/s and random rows in seconds a million.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
import zarr

from features import FeatureStore, Instances, load_features, pack_features
from tiling import GridConfig, TileGrid, grid_attributes, save_grid, write_coords, write_header

ROUNDS = 7
BAGS_A_ROUND = 100
ROWS_A_BATCH = 4096
BATCHES_A_ROUND = 4

Sources = dict[str, tuple[Path, Path]]


def draw(folder: Path, n_bags: int, n_tiles: int, dim: int) -> Sources:
    """Write grids and bags of random float16 features."""
    rng = np.random.default_rng(0)
    some = rng.normal(size=(n_tiles + n_bags, dim)).astype(np.float16)
    sources = {}
    for k in range(n_bags):
        grid = TileGrid(
            slide_id=f"slide-{k:04}", slide_path="", slide_fingerprint="", mpp=0.5, mpp_source="drawn",
            coords=np.stack([np.arange(n_tiles) * 256, np.full(n_tiles, k)], axis=1).astype(np.int64),
            tissue_fraction=np.ones(n_tiles, np.float32), size_level0_px=(256 * n_tiles, 1024),
            config=GridConfig(), level=0, read_px=256, tile_px_level0=256,
            tissue_polygons={"type": "MultiPolygon", "coordinates": []},
        )  # fmt: skip
        paths = folder / "tiles" / f"{k}.h5", folder / "features" / f"{k}.h5"
        save_grid(grid, paths[0])
        paths[1].parent.mkdir(exist_ok=True)
        with h5py.File(paths[1], "w") as file:
            file["features"], file["unreadable"] = some[k : k + n_tiles], np.zeros(n_tiles, bool)
            write_coords(file, grid)
            told = {
                "encoder": "drawn",
                "encoder_fingerprint": "drawn",
                "fingerprint": f"{k:012}",
                "config": {},
            }
            write_header(file, "features", grid_attributes(grid) | told)
        sources[grid.slide_id] = paths
    return sources


class Reading:
    """The ways to read the same bags and rows."""

    def __init__(self, sources: Sources, place: Path) -> None:
        self.paths = [path for _, path in sources.values()]
        self.ids = list(sources)
        self.bags, self.store = Instances.from_bags(self.paths), FeatureStore(place)
        self.packed = self.store.instances()
        self.array = zarr.open_group(place, mode="r")["features"]
        self.ram = np.concatenate([self.bags.bag(k) for k in range(len(self.paths))])
        self.bag_bytes = self.bags.bag(0).nbytes

    def whole(self, numbers: np.ndarray) -> dict[str, Callable[[], object]]:
        """Return the ways to read some whole bags."""
        spans = [slice(*self.bags.offsets[k : k + 2].tolist()) for k in numbers]
        return {
            "memcpy": lambda: [self.ram[span].copy() for span in spans],
            "bag file (load_features)": lambda: [load_features(self.paths[k]) for k in numbers],
            "bag file, features alone": lambda: [self._features(self.paths[k]) for k in numbers],
            "store (FeatureStore.bag)": lambda: [
                np.array(self.store.bag(self.ids[k]).features) for k in numbers
            ],
            "store, features alone": lambda: [np.array(self.packed.bag(k)) for k in numbers],
            "store by zarr alone": lambda: [self.array[span] for span in spans],
        }

    @staticmethod
    def _features(path: Path) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return file["features"][()]

    def random(self, indices: np.ndarray) -> dict[str, Callable[[], object]]:
        """Return the ways to read some rows; by h5py and by zarr only the first of them, which take long."""
        return {
            "array in memory": lambda: self.ram.take(indices, axis=0),
            "bag files, mapped (Instances)": lambda: self.bags.rows(indices),
            "store, mapped (Instances)": lambda: self.packed.rows(indices),
            "bag files by h5py, row by row": lambda: self._by_h5py(indices[: len(indices) // 16]),
            "store by zarr alone": lambda: self.array.oindex[np.unique(indices[: len(indices) // 64])],
        }

    def _by_h5py(self, indices: np.ndarray) -> np.ndarray:
        rows = np.empty((len(indices), self.ram.shape[1]), self.ram.dtype)
        which = np.searchsorted(self.bags.offsets, indices, side="right") - 1
        for k in np.unique(which):
            with h5py.File(self.paths[k], "r") as file:
                for place in np.flatnonzero(which == k):
                    rows[place] = file["features"][indices[place] - self.bags.offsets[k]]
        return rows


def shuffled(ways: dict[str, Callable[[], object]], rng: np.random.Generator) -> list[tuple[str, Callable]]:
    """The ways in another order each time: one pays for caches and memory as the one before left them."""
    items = list(ways.items())
    return [items[k] for k in rng.permutation(len(items))]


def timed(job: Callable[[], object]) -> float:
    started = time.process_time()
    job()
    return time.process_time() - started


def measure(reading: Reading) -> tuple[dict[str, float], dict[str, float]]:
    """Return GB/s of whole bags and seconds a million random rows, by way."""
    rng = np.random.default_rng(1)
    whole, random = defaultdict(list), defaultdict(list)
    for _ in range(ROUNDS):
        numbers = rng.choice(len(reading.paths), min(BAGS_A_ROUND, len(reading.paths)), replace=False)
        n_bytes = len(numbers) * reading.bag_bytes
        for way, job in shuffled(reading.whole(numbers), rng):
            whole[way].append(n_bytes / timed(job) / 1e9)
        for _ in range(BATCHES_A_ROUND):
            indices = rng.integers(0, len(reading.ram), ROWS_A_BATCH)
            for way, job in shuffled(reading.random(indices), rng):
                n_rows = len(indices) // (16 if "h5py" in way else 64 if "zarr" in way else 1)
                random[way].append(timed(job) / n_rows * 1e6)
    return _medians(whole, reading.whole(np.zeros(0, int))), _medians(
        random, reading.random(np.zeros(0, int))
    )


def _medians(told: dict[str, list[float]], ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    return {way: statistics.median(told[way]) for way in ways}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("bags", 1000), ("tiles", 480), ("dim", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="slidebag-store-") as name:
        folder = Path(name)
        sources = draw(folder, given.bags, given.tiles, given.dim)
        packing = timed(lambda: pack_features(sources, folder / "store.zarr"))
        opening = {
            "bags": timed(lambda: Instances.from_bags([path for _, path in sources.values()])),
            "store": timed(lambda: FeatureStore(folder / "store.zarr").instances()),
        }
        whole, random = measure(Reading(sources, folder / "store.zarr"))
    n_bytes = given.bags * given.tiles * given.dim * 2
    if not given.json:
        shape = f"{given.tiles} × {given.dim} float16"
        print(f"{given.bags} bags of {shape}, {n_bytes / 1e9:.2f} GB, warm, CPU time")
        print(f"packing {packing:.1f} s ({n_bytes / packing / 1e9:.2f} GB/s); opening as instances: "
              f"bags {opening['bags']:.2f} s, store {opening['store']:.2f} s")  # fmt: skip
        print(f"\n{'whole bags':32} {'GB/s':>8} {'of memcpy':>10}")
        for way, speed in whole.items():
            print(f"{way:32} {speed:8.2f} {speed / whole['memcpy']:10.2f}")
        print(f"\n{'random rows of all bags':32} {'s/million':>10} {'× memory':>9}")
        for way, seconds in random.items():
            print(f"{way:32} {seconds:10.2f} {seconds / random['array in memory']:9.1f}")
    told = {"bytes": n_bytes, "packing_s": packing, "opening_s": opening,
            "whole_bags_gb_s": whole, "random_rows_s_a_million": random}  # fmt: skip
    print(json.dumps({k: v if not isinstance(v, dict) else {w: round(x, 3) for w, x in v.items()}
                      for k, v in told.items()}))  # fmt: skip


if __name__ == "__main__":
    main()
