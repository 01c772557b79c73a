"""The probability of tiles as a pyramidal OME-TIFF that viewers lay over the slide and measure."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import tifffile

from .files import replacing
from .geojson import class_colour
from .heatmap import Heatmap
from .ome_metadata import ome_metadata, xml_text

_TILE_PX, _SMALL_PX = 256, 256  # a level no larger gets no further one
_CHANNEL_NUMBER_OF_FIRST = 1  # a heatmap is of a positive class, and class 0 is the negative one


def write_ome_heatmap(
    path: Path,
    heatmaps: Mapping[str, Heatmap],
    mpp: float,
    *,
    slide_id: str,
    fingerprint: str,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write heatmaps of one slide as the channels of an OME-TIFF that spans exactly the slide.

    Values are float32, the probability itself on the scale 0 to 1 whatever the slide, NaN where no tile
    has a score. The physical size of a pixel is such that width and height are the slide's in µm. Each
    further level is half as large, the mean of what is scored; tiles are compressed (deflate).

    Args:
        path: the file; it takes its place only when it is whole.
        heatmaps: by name of the class, which becomes the channel's; all of one raster, one or more.
        mpp: the slide's resolution in µm per level-0 pixel.
        slide_id: the slide, after which the image is called.
        fingerprint: kept in the file for `ome_fingerprint`.
        about: what else the file says of itself, by name.

    Raises:
        ValueError: there is no heatmap, or they are of different rasters.
    """
    rasters = {(h.values.shape, h.size_level0_px) for h in heatmaps.values()}
    if len(rasters) != 1:
        raise ValueError(
            f"{slide_id}: heatmaps are of {len(rasters)} rasters, wanted one or more of the same"
        )
    (((height, width), size_px),) = rasters
    size_um = [side * mpp for side in size_px]
    level = np.stack([h.resampled((width, height)) for h in heatmaps.values()])
    channels = range(_CHANNEL_NUMBER_OF_FIRST, _CHANNEL_NUMBER_OF_FIRST + len(heatmaps))
    told = {"values": "probability, 0 to 1; NaN: not scored", **(about or {})}
    metadata = {
        "axes": "CYX",
        **ome_metadata(slide_id, (size_um[0] / width, size_um[1] / height), fingerprint, told),
        "Channel": {
            "Name": [xml_text(name) for name in heatmaps],
            "Color": [_colour_number(number) for number in channels],
        },
    }
    smaller = list(_smaller(level))
    with (
        replacing(path) as temporary,
        tifffile.TiffWriter(temporary, ome=True, bigtiff=True) as file,
    ):
        _write_level(file, level, size_um, metadata=metadata, subifds=len(smaller))
        for each in smaller:
            _write_level(file, each, size_um, metadata=None, subfiletype=1)


def _write_level(file: tifffile.TiffWriter, level: np.ndarray, size_um: list[float], **options) -> None:
    height, width = level.shape[1:]
    file.write(
        level,
        tile=(_TILE_PX, _TILE_PX),
        photometric="minisblack",
        compression="zlib",
        predictor=True,
        resolution=(1e4 * width / size_um[0], 1e4 * height / size_um[1]),
        resolutionunit="CENTIMETER",
        maxworkers=1,
        **options,
    )


def _smaller(level: np.ndarray) -> Iterator[np.ndarray]:
    """Yield levels of half the size each, until one is small."""
    while max(level.shape[1:]) > _SMALL_PX:
        level = np.stack([_half(values) for values in level])
        yield level


def _half(values: np.ndarray) -> np.ndarray:
    """Return the mean of what is scored under each pixel twice as large, NaN where nothing is."""
    height, width = values.shape
    size = (max(1, round(width / 2)), max(1, round(height / 2)))
    is_scored = ~np.isnan(values)
    total, share = (
        cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        for part in (np.where(is_scored, values, 0), is_scored.astype(np.float32))
    )
    out = np.full_like(total, np.nan)
    np.divide(total, share, out=out, where=share > 0)
    return np.clip(out, 0, 1)  # of rounding


def _colour_number(class_number: int) -> int:
    """A class's colour as OME counts: red, green, blue, alpha in a signed number of 32 bits."""
    red, green, blue = class_colour(class_number)
    return int(np.array([255, blue, green, red], np.uint8).view("<i4")[0])
