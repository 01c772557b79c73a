"""What reading costs besides time on a fast disk: reads of a slow one, and memory."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from reading_slide import write_large_slide

from tiling import open_slide, read_patches

_LATENCY_S = 0.002
_WIDTHS_PX = (10_000, 40_000, 100_000)
_HEIGHT_PX = 2560
_N_PATCHES = 512
_PEAK = """
import sys
from pathlib import Path
import numpy as np
from tiling import GridConfig, TissueMask, open_slide, read_patches, tile_slide
with open_slide(sys.argv[1]) as slide:
    mask = TissueMask(np.ones((4, 4), bool), np.zeros((4, 4, 3), np.uint8), slide.size_px)
    grid = tile_slide(slide, mask, GridConfig(tile_px=200, tile_mpp=slide.mpp, min_tissue=0))
    for _ in read_patches(slide, grid):
        pass
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


class SlowFile:
    """A file on a disk that takes a while to begin to answer."""

    def __init__(self, file: Any) -> None:
        self._file, self.n_reads = file, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, count: int) -> bytes:
        """Read, later."""
        self.n_reads += 1
        time.sleep(_LATENCY_S)
        return self._file.read(count)


def latency(reading: Any) -> dict[str, float]:
    """Return patches a read, and how many times as fast as one read a tile (wall time), on a slow disk."""
    grid = reading.grid
    some = replace(grid, coords=grid.coords[:_N_PATCHES], tissue_fraction=grid.tissue_fraction[:_N_PATCHES])
    reading.file = SlowFile(reading.file)
    start = time.perf_counter()
    reading.decode(some)
    tile_by_tile_s = time.perf_counter() - start
    with open_slide(reading.path, fallback_mpp=0.5) as slide:
        source: Any = slide
        file = source._tiles._bytes._file = SlowFile(source._tiles._bytes._file)
        start = time.perf_counter()
        n = sum(len(patches) for patches in read_patches(slide, some))
        return {"patches_a_read": n / file.n_reads, "ratio": tile_by_tile_s / (time.perf_counter() - start)}


def peaks_mb(folder: Path) -> dict[int, float]:
    """Return the peak memory of a process that reads all of a slide, by the slide's width in px (Linux)."""
    peaks = {}
    for width in _WIDTHS_PX if Path("/proc/self/status").exists() else ():
        path = write_large_slide(folder / f"{width}.svs", (width, _HEIGHT_PX))
        ran = subprocess.run([sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True)
        peaks[width] = int(ran.stdout) / 1024
    return peaks
