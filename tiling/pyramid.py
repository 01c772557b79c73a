"""Write pixels as a pyramidal slide file that other readers take for a scanner's."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile

from .errors import ResolutionError
from .files import replacing
from .slide import PLAUSIBLE_MPP

_STEP = 4  # Aperio's own: each level is a quarter as wide as the one before
_SMALL_PX = 768  # a level no larger than this gets no further one
_THUMBNAIL_PX = 512
_OBJECTIVE_MPP = 10.0  # magnification x resolution of a usual scanner: 20x is 0.5 µm/px


def write_slide(
    path: Path | str,
    pixels: np.ndarray,
    *,
    mpp: float | None,
    tile_px: int = 256,
    quality: int = 85,
) -> None:
    """Write (H, W, 3) uint8 RGB `pixels` as a tiled JPEG pyramid in Aperio's SVS layout.

    Levels are downsampled 1, 4, 16, ... until small. OpenSlide opens the file as vendor "aperio".

    Args:
        path: the file, written whole or not at all.
        pixels: level 0.
        mpp: resolution in µm/px, stated exactly; None writes a slide that states none.
        tile_px: side of the file's own tiles, a multiple of 16.
        quality: JPEG quality, 1 to 100.

    Raises:
        ResolutionError: `mpp` is outside 0.05 to 20 µm/px.
        ValueError: `pixels` are not (H, W, 3) uint8.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"pixels are {pixels.shape} {pixels.dtype}, wanted (H, W, 3) uint8")
    low, high = PLAUSIBLE_MPP
    if mpp is not None and not low <= mpp <= high:
        raise ResolutionError(f"{path}: mpp is {mpp:g} µm/px", hint=f"give {low:g} to {high:g}")
    with (
        replacing(Path(path)) as partial,
        tifffile.TiffWriter(partial, bigtiff=pixels.nbytes > 2**32) as file,
    ):
        level = pixels
        _write_level(file, level, _description(level, pixels, tile_px, quality, mpp), tile_px, quality)
        # Readers of this layout expect an untiled thumbnail as the second image
        file.write(_thumbnail(pixels), photometric="rgb", metadata=None, software=False)
        while max(level.shape[:2]) > _SMALL_PX:
            level = _quarter(level)
            text = _description(level, pixels, tile_px, quality, mpp)
            _write_level(file, level, text, tile_px, quality)


def _write_level(
    file: tifffile.TiffWriter, level: np.ndarray, description: str, tile_px: int, quality: int
) -> None:
    file.write(
        _tiles(level, tile_px),
        shape=level.shape,
        dtype=np.uint8,
        tile=(tile_px, tile_px),
        photometric="rgb",
        subsampling=(2, 2),
        compression="jpeg",
        compressionargs={"level": quality},
        description=description,
        metadata=None,
        software=False,
        maxworkers=1,
    )


def _tiles(level: np.ndarray, tile_px: int) -> Iterator[np.ndarray]:
    """Whole tiles row by row; those over the border repeat its last pixels, so that JPEG does not ring."""
    height, width = level.shape[:2]
    for y in range(0, height, tile_px):
        for x in range(0, width, tile_px):
            tile = level[y : y + tile_px, x : x + tile_px]
            missing = (tile_px - tile.shape[0], tile_px - tile.shape[1])
            yield np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def _quarter(level: np.ndarray) -> np.ndarray:
    height, width = level.shape[:2]
    size = (max(1, round(width / _STEP)), max(1, round(height / _STEP)))
    return cv2.resize(level, size, interpolation=cv2.INTER_AREA)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = min(1.0, _THUMBNAIL_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _description(level: np.ndarray, pixels: np.ndarray, tile_px: int, quality: int, mpp: float | None) -> str:
    height, width = pixels.shape[:2]
    text = f"Aperio Image Library slidebag\r\n{width}x{height} [0,0 {width}x{height}] ({tile_px}x{tile_px})"
    if level is not pixels:
        text += f" -> {level.shape[1]}x{level.shape[0]}"
    text += f" JPEG/RGB Q={quality}"
    if mpp is None:
        return text
    return f"{text}|AppMag = {_OBJECTIVE_MPP / mpp:.2g}|MPP = {float(mpp)!r}"
