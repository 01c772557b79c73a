"""The probability of tiles as a pyramidal OME-TIFF that viewers lay over the slide and measure."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile

from .files import replacing
from .geojson import class_colour
from .heatmap import Heatmap
from .ome_metadata import ome_metadata, xml_text
from .raster import pyramid_of

_TILE_PX = 256
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
    (level, *smaller), size_px = pyramid_of(heatmaps, slide_id)
    height, width = level.shape[1:]
    size_um = [side * mpp for side in size_px]
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


def _colour_number(class_number: int) -> int:
    """A class's colour as OME counts: red, green, blue, alpha in a signed number of 32 bits."""
    red, green, blue = class_colour(class_number)
    return int(np.array([255, blue, green, red], np.uint8).view("<i4")[0])
