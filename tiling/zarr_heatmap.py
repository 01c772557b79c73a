"""The probability of tiles as an OME-Zarr image (NGFF 0.5, zarr v3)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.errors

from .files import replacing_folder
from .geojson import class_colour
from .heatmap import Heatmap
from .raster import pyramid_of

_CHUNK_PX = 512
_FINGERPRINT = "slidebag_fingerprint"


def write_zarr_heatmap(
    path: Path,
    heatmaps: Mapping[str, Heatmap],
    mpp: float,
    *,
    slide_id: str,
    fingerprint: str,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write heatmaps of one slide as the channels of an OME-Zarr image: the values of `write_ome_heatmap`.

    Places are in µm, 0 at the centre of the slide's first pixel, so that viewers lay it over the slide.

    Args:
        path: the folder; it takes its place only when it is whole.
        heatmaps: by name of the class, which becomes the channel's; all of one raster, one or more.
        mpp: the slide's resolution in µm per level-0 pixel.
        slide_id: the slide, after which the image is called.
        fingerprint: kept in the group's attributes for `zarr_fingerprint`.
        about: what else the group says of itself, by name.

    Raises:
        ValueError: there is no heatmap, or they are of different rasters.
    """
    levels, size_px = pyramid_of(heatmaps, slide_id)
    size_um = [side * mpp for side in size_px]
    with replacing_folder(path) as temporary:
        group = zarr.create_group(temporary, overwrite=True)
        for number, level in enumerate(levels):
            group.create_array(
                str(number), data=level, chunks=(1, _CHUNK_PX, _CHUNK_PX), fill_value=np.nan,
                dimension_names=["c", "y", "x"],
            )  # fmt: skip
        group.attrs.update(
            {
                "ome": _ome(slide_id, [level.shape for level in levels], size_um, mpp, list(heatmaps)),
                _FINGERPRINT: fingerprint,
                "values": "probability, 0 to 1; NaN: not scored",
                **(about or {}),
            }
        )


def zarr_fingerprint(path: Path) -> str | None:
    """Return the fingerprint in a folder of `write_zarr_heatmap`, None where there is none to trust."""
    try:
        found = zarr.open_group(path, mode="r").attrs.get(_FINGERPRINT)
    except (zarr.errors.BaseZarrError, OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: to be made again
    return found if isinstance(found, str) else None


def _ome(
    name: str, shapes: list[tuple[int, ...]], size_um: list[float], mpp: float, classes: list[str]
) -> dict[str, Any]:
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    datasets = []
    for number, (_, height, width) in enumerate(shapes):
        scale = [size_um[1] / height, size_um[0] / width]
        # of pixel centres, as NGFF counts
        shift = [(um - mpp) / 2 for um in scale]
        datasets.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, *scale]},
                    {"type": "translation", "translation": [0.0, *shift]},
                ],
            }
        )
    channels = [
        {
            "label": label,
            "color": "".join(f"{part:02X}" for part in class_colour(number)),
            "active": True,
            "window": {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0},
        }
        for number, label in enumerate(classes, 1)
    ]
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets, "type": "mean"}],
        "omero": {"channels": channels},
    }
