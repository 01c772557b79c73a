"""Time and memory of each heatmap format, and of a canvas of the slide's pixels, in one run.

The slide has 100,000 x 80,000 px and 60,000 tiles. Its levels 0 and 1 (1/4) show nothing but glass: no format
but `blended` reads them, and an overlay of 2,000 px is made from level 2 (1/16), which is drawn as all below.
`blended` is of a slide of 40,000 x 30,000 px with all its pixels, a third of it tissue under tiles.

`clam` is what a canvas of the slide's own pixels takes, as CLAM's heatmaps are made: sum and count of all
tiles filled one by one, colours mapped tile by tile, blended, made smaller. At full size its arrays take 150
GB; so it runs at 1/8 of the slide's width and height, with 1/64 of the pixels, and without reading the
slide: its time and memory are far below those at full size.

    python bench/heatmaps.py [--json] [--only png ...]

Each format is written in a process of its own, which begins with the grid and the probabilities in memory
and the libraries loaded. The last line is one JSON object: `<format>_s` is seconds, `<format>_cpu_s` those of
the processor, `<format>_mb` the most memory, `peak_mb` that of all formats of the large slide.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from heatmap_slides import Drawn

from tiling import (
    Legend,
    TileGrid,
    hot_regions,
    open_slide,
    overlay,
    paint,
    write_blended,
    write_geojson,
    write_ome_heatmap,
    write_picture,
    write_region_table,
    write_regions,
)

LARGE = Drawn((100_000, 80_000), 0.25, share=0.4915)
WHOLE = Drawn((40_000, 30_000), 0.5, share=1 / 3)
NAMES = ("normal", "tumour")
LEGEND = Legend(class_name="tumour", threshold=0.5)
CLAM_DOWN = 8
BARS_S = {"png": 2.0, "geojson": 5.0, "ome_tiff": 3.0, "blended": 10.0}
N_CORES = 2


def probability_of(grid: TileGrid) -> np.ndarray:
    """Return smooth probabilities with some noise, float32 (N, 2)."""
    x, y = grid.coords.T / max(grid.size_level0_px)
    wave = np.sin(23 * x + 5 * np.sin(9 * y)) * np.cos(19 * y) + 0.2 * np.random.default_rng(0).normal(
        size=len(x)
    )
    tumour = 1 / (1 + np.exp(-3 * wave))
    return np.stack([1 - tumour, tumour], axis=1).astype(np.float32)


def png(folder: Path, grid: TileGrid, probability: np.ndarray) -> None:
    with open_slide(folder / "large.svs") as slide:
        heatmap = paint(grid, probability[:, 1])
        picture = overlay(slide, heatmap, LEGEND)
    write_picture(folder / "overlay.png", picture, fingerprint="bench", about="large")


def geojson(folder: Path, grid: TileGrid, probability: np.ndarray) -> None:
    write_geojson(
        folder / "tiles.geojson", grid, probability, NAMES, fingerprint="bench", threshold=LEGEND.threshold
    )


def ome_tiff(folder: Path, grid: TileGrid, probability: np.ndarray) -> None:
    heatmaps = {NAMES[1]: paint(grid, probability[:, 1])}
    write_ome_heatmap(folder / "heatmap.ome.tiff", heatmaps, grid.mpp, slide_id="large", fingerprint="bench")


def clam(folder: Path, grid: TileGrid, probability: np.ndarray) -> None:
    """Fill a canvas tile by tile, colour it tile by tile, blend it over a slide, make it smaller."""
    width, height = (side // CLAM_DOWN for side in grid.size_level0_px)
    side = grid.tile_px_level0 // CLAM_DOWN
    total, count = np.zeros((height, width)), np.zeros((height, width), np.uint16)
    picture = np.full((height, width, 3), 243, np.uint8)  # the slide, without the time to read it
    places = [(slice(y, y + side), slice(x, x + side)) for x, y in (grid.coords // CLAM_DOWN).tolist()]
    for place, score in zip(places, probability[:, 1].tolist(), strict=True):
        total[place] += score
        count[place] += 1
    np.divide(total, count, out=total, where=count > 0)
    colours = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_JET)[:, 0]
    coloured = picture.copy()
    for place in places:
        coloured[place] = colours[(np.clip(total[place], 0, 1) * 255).astype(np.uint8)]
    blended = cv2.addWeighted(coloured, 0.4, picture, 0.6, 0)
    scale = 2000 / width
    small = cv2.resize(blended, (2000, round(height * scale)), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "clam.png"), small)


def regions(folder: Path, grid: TileGrid, probability: np.ndarray) -> None:
    heatmap = paint(grid, probability[:, 1])
    found = hot_regions(grid, {NAMES[1]: heatmap}, heatmap, 0.5)
    write_region_table(folder / "regions.csv", grid, found, NAMES[1:])
    write_regions(folder / "regions.geojson", grid, found, fingerprint="bench")


def blended(folder: Path, grid: TileGrid, probability: np.ndarray) -> None:
    with open_slide(folder / "whole.svs") as slide:
        heatmap = paint(grid, probability[:, 1])
        write_blended(folder / "blended.ome.tiff", slide, heatmap, opacity=0.65, fingerprint="bench")


Job = Callable[[Path, TileGrid, np.ndarray], None]
JOBS: dict[str, tuple[Drawn, Job]] = {
    "png": (LARGE, png),
    "geojson": (LARGE, geojson),
    "regions": (LARGE, regions),
    "ome_tiff": (LARGE, ome_tiff),
    "blended": (WHOLE, blended),
    "clam": (LARGE, clam),
}


def write_one(name: str, folder: Path) -> None:
    """Write one format; print seconds, the peak memory in MB, and how large the file is."""
    drawn, job = JOBS[name]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:N_CORES])
    grid = drawn.grid()
    probability = probability_of(grid)
    start, start_cpu = time.perf_counter(), time.process_time()
    job(folder, grid, probability)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"s": seconds, "cpu_s": cpu_s, "mb": peak_kb / 1024, "n_tiles": len(grid)}))


def measure(folder: Path, names: list[str]) -> dict[str, dict[str, float]]:
    found = {}
    for name in names:
        command = [sys.executable, __file__, "--write", name, "--folder", str(folder)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = json.loads(ran.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*JOBS], default=[*JOBS], help="some formats")
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--write", choices=[*JOBS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the drawn slides and what is written stay")
    told = parser.parse_args()
    if told.write:
        write_one(told.write, told.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = told.folder or Path(temporary)
        if not (folder / "large.svs").exists():
            LARGE.write(folder / "large.svs", n_bare=2)
        if not (folder / "whole.svs").exists():
            WHOLE.write(folder / "whole.svs")
        found = measure(folder, told.only)
    table: dict[str, float] = {f"{name}_s": round(of["s"], 2) for name, of in found.items()}
    table |= {f"{name}_cpu_s": round(of["cpu_s"], 2) for name, of in found.items()}
    table |= {f"{name}_mb": round(of["mb"]) for name, of in found.items()}
    large = [of["mb"] for name, of in found.items() if JOBS[name][0] is LARGE and name != "clam"]
    table["peak_mb"] = round(max(large, default=0))
    if not told.json:
        print(f"{'format':<10}{'tiles':>8}{'s':>9}{'bar s':>8}{'CPU s':>8}{'peak MB':>9}")
        for name, of in found.items():
            bar = f"{BARS_S[name]:g}" if name in BARS_S else ""
            print(f"{name:<10}{of['n_tiles']:>8}{of['s']:>9.2f}{bar:>8}{of['cpu_s']:>8.2f}{of['mb']:>9.0f}")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
