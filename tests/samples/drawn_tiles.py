"""Small tiles of two kinds of tissue, which one tells apart at once: many small nuclei, or few large ones."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

KINDS = {"small": (14, 2), "large": (4, 6)}  # nuclei and their radius in pixels


def draw_tile(kind: str, rng: np.random.Generator, side: int = 48) -> np.ndarray:
    """Return a uint8 tile (side, side, 3) of pink ground with violet nuclei."""
    noise = rng.integers(0, 12, (side, side, 3))
    tile = (np.array((228, 170, 200)) + noise).astype(np.uint8)
    n, radius = KINDS[kind]
    for _ in range(n):
        cv2.circle(tile, rng.integers(0, side, 2).tolist(), radius, (90, 50, 140), -1)
    return tile


def write_tiles(folder: Path, n: int, seed: int = 0) -> Path:
    """Write n tiles of each kind, in a subfolder each."""
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for k in range(n):
            Image.fromarray(draw_tile(kind, rng)).save(folder / kind / f"{k:03}.png")
    return folder
