"""Patches per second of slidebag, of OpenSlide, and of the bare decoder, interleaved in one run.

Everything runs on one core, so that no way has more of the machine than another. The limit is the
decoding of the tiles that the patches touch: each once for grids, as often as touched for random
places. OpenSlide is called as CLAM and TRIDENT call it: read_region(...).convert("RGB") to an array.

    python bench/reading.py [--slide SLIDE] [--json] [--seconds 60]

Without --slide one of 40,000 x 30,000 px is drawn. The last line is one JSON object: patches/s, CPU ms
a patch, how many times OpenSlide's CPU time that saves, and how many times the limit it takes; under
`latency` how many times as fast as one read a tile it is where each read takes 2 ms more; under
`memory_mb` the peak of reading slides of several widths, each in a process of its own.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import simplejpeg
import tifffile
from PIL import Image
from reading_cost import latency, peaks_mb
from reading_slide import write_large_slide

from tiling import GridConfig, TileGrid, TissueMask, open_slide, read_patches, tile_slide

LEAST_ROUNDS, MOST_ROUNDS = 6, 60  # short ones are measured more often
WAYS = ("limit", "slidebag", "openslide", "cucim")
TILE_PX = 256
Job = Callable[[], int]  # reads some patches, says how many


@dataclass(frozen=True)
class Case:
    """Patches of 256 px, each from `factor` times as many of level 0, the grid shifted by `offset_px`."""

    factor: int
    offset_px: int
    is_random: bool = False


CASES = {
    "aligned": Case(1, 0),
    "unaligned": Case(1, 100),
    "downsample2": Case(2, 0),
    "random": Case(1, 100, is_random=True),
}


class Reading:
    """One case on one slide: the ways to read the same patches."""

    def __init__(self, path: Path, case: Case) -> None:
        self.path, self.case = path, case
        self.slide = open_slide(path, fallback_mpp=0.5)
        self.grid = self._grid()
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            self.n_columns = -(-page.imagewidth // page.tilewidth)
            self.tile_px = (page.tilewidth, page.tilelength)
            self.offsets, self.counts, self.tables = page.dataoffsets, page.databytecounts, page.jpegtables
            self.is_jpeg = page.compression == tifffile.COMPRESSION.JPEG
        self.file = path.open("rb", buffering=0)
        self.buffer = np.empty((self.tile_px[1], self.tile_px[0], 3), np.uint8)
        try:
            from cucim import CuImage

            self.cucim: Any = CuImage(str(path))
        except ImportError:
            self.cucim = None

    def _grid(self) -> TileGrid:
        mask = TissueMask(np.ones((4, 4), bool), np.zeros((4, 4, 3), np.uint8), self.slide.size_px)
        config = GridConfig(tile_px=TILE_PX, tile_mpp=self.slide.mpp * self.case.factor, min_tissue=0)
        grid = replace(
            tile_slide(self.slide, mask, config), level=0, read_px=round(TILE_PX * self.case.factor)
        )
        shifted = grid.coords + self.case.offset_px
        inside = (shifted + grid.read_px <= grid.size_level0_px).all(1)
        return replace(grid, coords=shifted[inside], tissue_fraction=grid.tissue_fraction[inside])

    def jobs(self, part: int, n: int) -> dict[str, Job]:
        """Return the ways to read `n` patches: a run of the grid, or random ones of it; caches are empty."""
        self.slide.close()
        self.slide = open_slide(self.path, fallback_mpp=0.5)
        self.handle = openslide.OpenSlide(self.path)
        rows = np.arange(part * n, part * n + n) % len(self.grid)
        if self.case.is_random:
            rows = np.random.default_rng(part).choice(len(self.grid), n)
        some = replace(
            self.grid, coords=self.grid.coords[rows], tissue_fraction=self.grid.tissue_fraction[rows]
        )
        jobs = {
            "limit": lambda: self.decode(some),
            "slidebag": lambda: sum(len(patches) for patches in read_patches(self.slide, some)),
            "openslide": lambda: sum(1 for _ in self.by_openslide(some)),
        }
        return jobs | (
            {"cucim": lambda: sum(1 for _ in self.by_cucim(some))} if self.cucim is not None else {}
        )

    def decode(self, grid: TileGrid) -> int:
        """Decode the tiles that the patches touch, and do nothing with them."""
        for index in self._touched(grid):
            self.file.seek(self.offsets[index])
            stream = self.file.read(self.counts[index])
            if not self.is_jpeg:
                imagecodecs.jpeg2k_decode(stream, numthreads=1, out=self.buffer)
                continue
            if self.tables:
                stream = self.tables[:-2] + stream[2:]
            simplejpeg.decode_jpeg(stream, buffer=self.buffer)
        return len(grid)

    def _touched(self, grid: TileGrid) -> Iterator[int]:
        seen: set[int] = set()
        for x, y in grid.coords.tolist():
            last_x, last_y = x + grid.read_px - 1, y + grid.read_px - 1
            for row in range(y // self.tile_px[1], last_y // self.tile_px[1] + 1):
                for column in range(x // self.tile_px[0], last_x // self.tile_px[0] + 1):
                    index = row * self.n_columns + column
                    if self.case.is_random or index not in seen:
                        seen.add(index)
                        yield index

    def by_openslide(self, grid: TileGrid) -> Iterator[np.ndarray]:
        """Read the patches as CLAM and TRIDENT do."""
        for x, y in grid.coords.tolist():
            region = self.handle.read_region((x, y), 0, (grid.read_px, grid.read_px)).convert("RGB")
            yield np.asarray(region if self.case.factor == 1 else region.resize((TILE_PX, TILE_PX)))

    def by_cucim(self, grid: TileGrid) -> Iterator[np.ndarray]:
        """Read the patches by cucim, one by one."""
        for x, y in grid.coords.tolist():
            pixels = np.asarray(self.cucim.read_region((x, y), (grid.read_px, grid.read_px), 0))
            if self.case.factor != 1:
                pixels = np.asarray(Image.fromarray(pixels).resize((TILE_PX, TILE_PX)))
            yield pixels


def measure(path: Path, case: Case, seconds: float) -> dict[str, dict[str, float]]:
    """Return rate and CPU time a patch of each way, medians over rounds; the ways take turns in each.

    The mean would be that of the rounds in which the machine was lent to somebody else.
    """
    reading = Reading(path, case)
    n = min(len(reading.grid), 2000 // case.factor**2)
    rates, cpu_ms = defaultdict(list), defaultdict(list)
    begun = time.perf_counter()
    for part in range(MOST_ROUNDS):
        for way, job in reading.jobs(part, n).items():
            start, start_cpu = time.perf_counter(), time.process_time()
            count = job()
            rates[way].append(count / (time.perf_counter() - start))
            cpu_ms[way].append(1000 * (time.process_time() - start_cpu) / count)
        elapsed = time.perf_counter() - begun
        if elapsed > seconds or (part + 1 >= LEAST_ROUNDS and elapsed > seconds / 2):
            break
    reading.slide.close()
    return {w: {"rate": float(np.median(rates[w])), "cpu_ms": float(np.median(cpu_ms[w]))} for w in rates}


def figures(ways: dict[str, dict[str, float]]) -> dict[str, float]:
    ours = ways["slidebag"]
    return {
        "patches_per_s": ours["rate"],
        "cpu_ms_a_patch": ours["cpu_ms"],
        "ratio_to_openslide": ways["openslide"]["cpu_ms"] / ours["cpu_ms"],
        "ratio_to_limit": ours["cpu_ms"] / ways["limit"]["cpu_ms"],
    }


def _row(name: str, ways: dict[str, dict[str, float]], told: dict[str, float]) -> str:
    rates = "".join(f"{ways[w]['rate']:>11.0f}" if w in ways else f"{'-':>11}" for w in WAYS)
    return (
        f"{name:<12}{rates}{told['cpu_ms_a_patch']:>9.3f}"
        f"{told['ratio_to_openslide']:>13.2f}{told['ratio_to_limit']:>10.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slide", type=Path, help="a slide of JPEG or JPEG 2000 tiles; drawn if not given")
    parser.add_argument("--size", type=int, nargs=2, default=(40_000, 30_000), help="of the drawn one, px")
    parser.add_argument("--seconds", type=float, default=60, help="about how long to measure")
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    told = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    lines = [f"{'patches/s':<12}" + "".join(f"{w:>11}" for w in WAYS) + "   CPU ms  x OpenSlide  of limit"]
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = told.slide or write_large_slide(Path(folder) / "large.svs", tuple(told.size))
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for name, case in CASES.items():
            ways = measure(path, case, told.seconds / len(CASES))
            table[name] = figures(ways)
            lines.append(_row(name, ways, table[name]))
        table["latency"] = latency(Reading(path, CASES["unaligned"]))
        table["memory_mb"] = peaks_mb(Path(folder))
    table["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    slow = table["latency"]
    lines.append(
        f"2 ms a read: {slow['patches_a_read']:.1f} patches a read, x{slow['ratio']:.1f} of a read a tile"
    )
    lines += [f"{width} px wide: peak memory {mb:.0f} MB" for width, mb in table["memory_mb"].items()]
    lines.append(f"peak memory {table['peak_memory_mb']:.0f} MB ({before_mb:.0f} before the first patch)")
    if not told.json:
        print("\n".join(lines))
    print(json.dumps(table))


if __name__ == "__main__":
    main()
