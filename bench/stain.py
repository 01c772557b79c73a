"""Stain normalisation on the real H&E slides: Reinhard's target, how far slides agree, and its time.

Each slide's tiles are brought to the target by both methods. Printed are the CIELAB means and spreads of
their stained pixels at 2 µm/px, the mean distance between the slides' means (Delta E of 1976) before and
after, and milliseconds of CPU a patch of 224 px. Reinhard's target, to be set in features/stain.py, is the
mean of what Macenko's method makes of the slides. The last line is JSON.

    SLIDEBAG_DATA=... python bench/stain.py [--picture before-and-after.png]
"""

import argparse
import json
import os
import time
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from features.recolour import density
from features.stain import StainNormaliser, coarsened, fit_stain
from tiling import (
    GridConfig,
    Slide,
    TileGrid,
    glass_colour,
    open_slide,
    read_patches,
    segment_tissue,
    tile_slide,
)

# name: µm/px that the tiles are cut at, and that is assumed where a slide states none (the whole of the
# third on 5,477 px: it is coarse)
SLIDES = {
    "CMU-1-Small-Region.svs": 0.5,
    "tcga-cr-7395-01a-01-ts1.svs": 0.5,
    "C3L-00601-26_from_dzi.tif": 4.0,
    "idc_14082_4mpp.tif": 4.0,
    "idc_14306_4mpp.tif": 4.0,
}
METHODS = ("none", "macenko", "reinhard")
N_TILES, TILE_PX = 40, 224
STAINED = 0.15  # mean optical density, natural logarithm
SHOWN = 6


def sample(slide: Slide, tile_mpp: float) -> tuple[TileGrid, np.ndarray]:
    """Return the grid of a slide, and some of its patches with much tissue, uint8 (n, 224, 224, 3)."""
    config = GridConfig(tile_mpp=max(tile_mpp, slide.mpp), tile_px=TILE_PX, min_tissue=0.5, max_tiles=N_TILES)
    grid = tile_slide(slide, segment_tissue(slide), config)
    return grid, np.concatenate([p.pixels for p in read_patches(slide, grid)])


def colours(patches: np.ndarray, tile_mpp: float, glass: tuple[float, ...]) -> np.ndarray:
    """Return the CIELAB mean and spread (2, 3) of the stained pixels of patches over glass of that colour."""
    pixels = coarsened(patches, tile_mpp).reshape(-1, 3)
    pixels = pixels[density(pixels, glass).mean(axis=1) > STAINED]
    lab = cv2.cvtColor(np.minimum(pixels[None] / np.array(glass, np.float32), 1), cv2.COLOR_RGB2LAB)[0]
    return np.stack([lab.mean(axis=0), lab.std(axis=0)])


def disagreement(found: list[np.ndarray]) -> float:
    """Return the mean distance between the slides' mean colours."""
    return float(np.mean([np.linalg.norm(a[0] - b[0]) for a, b in combinations(found, 2)]))


def ms_per_patch(stain: StainNormaliser, patches: np.ndarray) -> float:
    """Return the CPU time of one patch, the least of five rounds."""
    taken = []
    for _ in range(5):
        start = time.process_time()
        stain(patches)
        taken.append(time.process_time() - start)
    return 1000 * min(taken) / len(patches)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", type=Path, help="patches of each slide, plain and by each method")
    given = parser.parse_args()
    cv2.setNumThreads(1)  # CPU time is that of one thread
    found: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
    taken: dict[str, list[float]] = {method: [] for method in METHODS[1:]}
    rows = []
    for name, tile_mpp in SLIDES.items():
        path = Path(os.environ["SLIDEBAG_DATA"], "slides", name)
        with open_slide(path, fallback_mpp=tile_mpp) as slide:
            grid, patches = sample(slide, tile_mpp)
            glass = tuple(glass_colour(slide.thumbnail(16.0)).tolist())
            for method in METHODS:
                stain = fit_stain(slide, grid, method)
                normal = patches if stain is None else stain(patches)
                found[method].append(
                    colours(normal, grid.config.tile_mpp, glass if stain is None else (255.0,) * 3)
                )
                rows.append(np.concatenate(list(normal[:: max(1, len(normal) // SHOWN)][:SHOWN]), axis=1))
                if stain is not None:
                    taken[method].append(ms_per_patch(stain, patches))
        told = "; ".join(f"{m} {' '.join(f'{v:.1f}' for v in found[m][-1].ravel())}" for m in METHODS)
        print(f"{name}: {len(patches)} tiles; mean and spread of L a b: {told}", flush=True)
    target = np.mean(found["macenko"], axis=0, dtype=float).round(1).tolist()
    apart = {method: round(disagreement(of), 1) for method, of in found.items()}
    ms = {method: round(float(np.median(of)), 2) for method, of in taken.items()}
    print(f"Reinhard's target: mean {target[0]}, spread {target[1]}")
    print(f"mean distance between slides, Delta E: {apart}")
    print(f"CPU ms a patch of {TILE_PX} px: {ms}")
    if given.picture:
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        cv2.imwrite(str(given.picture), np.concatenate(rows)[..., ::-1])
    print(json.dumps({"target": target, "disagreement": apart, "ms_per_patch": ms}))


if __name__ == "__main__":
    main()
