"""A large slide for measurements: drawn tissue in each tile, without drawing or holding it all."""

import itertools
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from tiling import PhantomConfig, render_phantom

TILE_PX = 256
_DRAWN_PX = 4096


@cache
def streams(quality: int, seed: int) -> list[bytes]:
    """Return the compressed tiles of a phantom of tissue."""
    config = PhantomConfig(size_px=(_DRAWN_PX, _DRAWN_PX), tumour_share=0.2, seed=seed)
    pixels = render_phantom(config).pixels
    places = itertools.product(range(0, _DRAWN_PX, TILE_PX), repeat=2)
    tiles = [pixels[y : y + TILE_PX, x : x + TILE_PX] for y, x in places]
    return [imagecodecs.jpeg8_encode(t, quality, colorspace="RGB", subsampling="420") for t in tiles]


def write_large_slide(path: Path, size_px: tuple[int, int], *, quality: int = 85, seed: int = 0) -> Path:
    """Write a JPEG-tiled slide of `size_px` (width, height) at 0.5 µm/px, its tiles cut from one phantom."""
    tiles = streams(quality, seed)
    width, height = size_px
    n_tiles = -(-width // TILE_PX) * -(-height // TILE_PX)
    order = np.random.default_rng(seed).integers(len(tiles), size=n_tiles)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            (tiles[k] for k in order),
            shape=(height, width, 3),
            dtype=np.uint8,
            tile=(TILE_PX, TILE_PX),
            photometric="ycbcr",
            subsampling=(2, 2),
            compression="jpeg",
            description=f"Aperio Image Library slidebag\r\n{width}x{height}|AppMag = 20|MPP = 0.5",
            metadata=None,
            software=False,
        )
    return path
