"""Extraction as a whole against its parts: slides into bags, reading alone, encoding alone, in one run.

On a generated slide of 40,000 x 30,000 px and on slides of the CRC cohort (drawn from real tiles, with
SLIDEBAG_DATA): seconds of the whole over max(reading alone, encoding alone), the ways taking turns; two
encoders in one pass over the sum of their encodings; and the peak memory of slides of 1,000 and of
100,000 tiles, each in a process of its own, with an encoder that takes no time. The last line is JSON.

    SLIDEBAG_DATA=... python bench/extract.py [--encoder NAME --weights FILE] [--tiles 1000]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from reading_slide import write_large_slide

from features import (
    BagConfig,
    Encoder,
    EncoderCard,
    EncoderConfig,
    ExtractJob,
    extract_cohort,
    find_devices,
    load_encoder,
)
from tiling import GridConfig, Slide, TileGrid, TissueMask, open_slide, read_patches, tile_slide

ROUNDS = 3
MEMORY_TILES = (1_000, 100_000)
SIZE_PX = (40_000, 30_000)


class Idle(Encoder):
    """As many numbers a patch as a small transformer gives, in no time."""

    batch = 64

    def __init__(self) -> None:
        self.card = EncoderCard(name="idle", dim=384, input_px=224, px_multiple=1, licence="-", source="-")
        self.fingerprint = "idle"

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return the first pixels of each patch as they are."""
        return patches.reshape(len(patches), -1)[:, :384].astype(np.float32)


def grid_of(path: Path, n_tiles: int) -> TileGrid:
    """Return the first tiles of the whole slide, all of it taken for tissue."""
    with open_slide(path, fallback_mpp=0.5) as slide:
        mask = TissueMask(np.ones((4, 4), bool), np.zeros((4, 4, 3), np.uint8), slide.size_px)
        grid = tile_slide(slide, mask, GridConfig(tile_mpp=slide.mpp, min_tissue=0))
    return replace(grid, coords=grid.coords[:n_tiles], tissue_fraction=grid.tissue_fraction[:n_tiles])


def jobs_of(
    paths: list[Path], grids: list[TileGrid], folder: Path, numbers: tuple[int, ...]
) -> list[ExtractJob]:
    jobs = []
    for path, grid in zip(paths, grids, strict=True):

        @contextmanager
        def opened(path: Path = path, grid: TileGrid = grid) -> Iterator[tuple[Slide, TileGrid]]:
            with open_slide(path, id=grid.slide_id, fallback_mpp=0.5) as slide:
                yield slide, grid

        jobs.append(
            ExtractJob(grid.slide_id, opened, {n: folder / f"{grid.slide_id}-{n}.h5" for n in numbers})
        )
    return jobs


def extract_all(jobs: list[ExtractJob], encoders: list[Encoder]) -> None:
    for done in extract_cohort(jobs, [encoders], BagConfig()):
        if done.error is not None:
            raise done.error


def read_all(paths: list[Path], grids: list[TileGrid], batch: int) -> list[np.ndarray]:
    """Read all patches; return those of one batch, for encoding alone."""
    kept: list[np.ndarray] = []
    for path, grid in zip(paths, grids, strict=True):
        with open_slide(path, fallback_mpp=0.5) as slide:
            for patches in read_patches(slide, grid, batch=batch):
                kept = kept or [patches.pixels]
    return kept


def encode_all(encoder: Encoder, pixels: np.ndarray, n_tiles: int) -> None:
    for start in range(0, n_tiles, len(pixels)):
        encoder.encode(pixels[: n_tiles - start])


def seconds(job: Callable[[], Any]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def compare(paths: list[Path], n_tiles: int, encoders: list[Encoder], folder: Path) -> dict[str, float]:
    """Return the medians over rounds in which the ways take turns."""
    grids = [grid_of(path, n_tiles) for path in paths]
    total = sum(map(len, grids))
    batch = encoders[0].batch
    (pixels,) = read_all(paths, grids, batch)
    ways: dict[str, Callable[[], Any]] = {
        "reading": lambda: read_all(paths, grids, batch),
        "encoding": lambda: encode_all(encoders[0], pixels, total),
        "whole": lambda: extract_all(jobs_of(paths, grids, folder, (0,)), encoders),
    }
    if len(encoders) > 1:
        ways["encoding 2"] = lambda: encode_all(encoders[1], pixels, total)
        ways["both"] = lambda: extract_all(jobs_of(paths, grids, folder, (0, 1)), encoders)
    for encoder in encoders:
        encoder.encode(pixels)  # what is compiled at first use is not timed
    taken = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, job in ways.items():
            taken[way].append(seconds(job))
    told = {way: float(np.median(values)) for way, values in taken.items()}
    ratios = [
        w / max(r, e) for w, r, e in zip(taken["whole"], taken["reading"], taken["encoding"], strict=True)
    ]
    told |= {
        "tiles": total,
        "patches_per_s": total / told["whole"],
        "ratio_to_slower_part": float(np.median(ratios)),
    }
    if len(encoders) > 1:
        pairs = zip(taken["both"], taken["encoding"], taken["encoding 2"], strict=True)
        told["two_encoders_ratio_to_sum"] = float(np.median([b / (one + two) for b, one, two in pairs]))
    return told


def peak_memory_mb(path: Path, n_tiles: int) -> float:
    """Return the most memory that a process extracting so many tiles takes."""
    told = subprocess.run(
        [sys.executable, __file__, "--memory-of", path, "--tiles", str(n_tiles)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(told.stdout.split()[-1])


def extract_idly(path: Path, n_tiles: int) -> None:
    """Extract with the idle encoder and print the peak memory of this process, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        grid = grid_of(path, n_tiles)
        if len(grid) < n_tiles:
            raise SystemExit(f"{path} has {len(grid)} tiles, {n_tiles} were asked for")
        extract_all(jobs_of([path], [grid], Path(folder), (0,)), [Idle()])
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def crc_slides(folder: Path) -> list[Path]:
    from crc_slides import build_cohort

    data = Path(os.environ["SLIDEBAG_DATA"])
    polygons = data / "annotations" / "camelyon16_polygons.zip"
    build_cohort(data / "tiles" / "crc.zip", polygons, folder, n_slides=6, seed=0)
    return sorted((folder / "slides").glob("*.svs"))


def show(name: str, told: dict[str, float]) -> None:
    parts = ", ".join(f"{way} {told[way]:.1f} s" for way in ("reading", "encoding", "whole"))
    print(f"{name}: {told['tiles']:.0f} tiles; {parts}; {told['patches_per_s']:.0f} patches/s")
    print(f"  whole / slower part {told['ratio_to_slower_part']:.3f}", flush=True)
    if "both" in told:
        print(f"  two encoders / sum {told['two_encoders_ratio_to_sum']:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="dinov2-vits14")
    parser.add_argument("--weights", type=Path, help="default: DINOv2's in SLIDEBAG_DATA")
    parser.add_argument("--tiles", type=int, default=1000, help="of each slide, for the times")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        extract_idly(given.memory_of, given.tiles)
        return
    weights = given.weights or Path(os.environ["SLIDEBAG_DATA"], "weights", "dinov2_vits14.safetensors")
    config = EncoderConfig(encoder=given.encoder, weights=str(weights))
    encoders = [load_encoder(config, device=find_devices("auto")[0]) for _ in range(2)]
    print(f"{config.encoder} in {encoders[0].precision} by {encoders[0].engine}")
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = write_large_slide(folder / "large.svs", SIZE_PX)
        table["large"] = compare([large], given.tiles, encoders, folder)
        show("large slide", table["large"])
        table["crc"] = compare(crc_slides(folder / "crc"), given.tiles // 4, encoders[:1], folder)
        show("CRC slides", table["crc"])
        large.unlink()
        wide = write_large_slide(folder / "wide.svs", (100_000, 51_000))
        table["peak_memory_mb"] = {n: peak_memory_mb(wide, n) for n in MEMORY_TILES}
        print(
            "peak memory:", ", ".join(f"{n:,} tiles {mb:.0f} MB" for n, mb in table["peak_memory_mb"].items())
        )
    print(json.dumps(table))


if __name__ == "__main__":
    main()
