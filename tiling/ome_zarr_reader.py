"""Slides in OME-Zarr folders, of any version and any order of axes."""

import hashlib
import json
from typing import Any

import numpy as np
import zarr
import zarr.errors

from .array_reader import UM_PER_UNIT, WAY_OUT, ArraySlide
from .errors import SlideError
from .slide import READERS
from .square_pixels import stated_mpp

_FIRST_AXES = "tczyx"  # before version 0.3 no file says its axes


@READERS.register("ome-zarr")
class OmeZarrSlide(ArraySlide):
    """An OME-Zarr folder: the levels of its first multiscale image, of 8-bit channels."""

    reader = "ome-zarr"
    preference = 5
    suffixes = frozenset({".zarr"})

    def _open_arrays(self) -> None:
        try:
            group, image = self._first_image()
            axes = [each if isinstance(each, dict) else {"name": each} for each in image["axes"]]
            names = "".join(axis["name"].upper() for axis in axes)
            arrays = [group[each["path"]] for each in image["datasets"]]
            self._arrays = [_Plane(array, names) for array in arrays]
            n_planes = max(plane.n_planes for plane in self._arrays)
            self._stated = _resolutions(image, [a.get("unit", "") for a in axes], names)
        except (
            zarr.errors.BaseZarrError, OSError, KeyError, IndexError, ValueError, TypeError, AttributeError,
        ) as error:  # fmt: skip
            raise SlideError(
                f"{self.id}: is no OME-Zarr image ({error})",
                hint="name the folder <name>.zarr that holds its multiscales",
            ) from error
        if n_planes != 1:
            raise SlideError(f"{self.id}: holds {n_planes} times or depths, wanted one", hint=WAY_OUT)
        self._axes = "".join(name for name in names if name in "CYX").replace("C", "S")

    def _first_image(self) -> tuple[Any, dict[str, Any]]:
        """The group with the levels, and what it says of them."""
        group = zarr.open_group(self.path, mode="r")
        if "bioformats2raw.layout" in _told(group):  # its images are folders with numbers
            group = group["0"]
        return group, {"axes": _FIRST_AXES, **_told(group)["multiscales"][0]}

    def identify(self) -> str:
        """Return the identity of the folder as it is now: name, size and time of change of each file."""
        digest = hashlib.sha256()
        for file in sorted(p for p in self.path.rglob("*") if p.is_file()):
            stat = file.stat()
            told = (file.relative_to(self.path).as_posix(), stat.st_size, stat.st_mtime_ns)
            digest.update(json.dumps(told).encode())
        return digest.hexdigest()[:16]


class _Plane:
    """The channels and the plane of an array of the axes `names`: the first of all times and depths."""

    def __init__(self, array: Any, names: str) -> None:
        sides = dict(zip(names, array.shape, strict=False))
        if not {"Y", "X"} <= sides.keys() or not len(sides) == len(names) == len(array.shape):
            raise ValueError(f"an array of {array.shape} has the axes {names}")
        self._array, self._names = array, names
        self.shape = tuple(side for name, side in sides.items() if name in "CYX")
        self.dtype = array.dtype
        self.n_planes = max((side for name, side in sides.items() if name not in "CYX"), default=1)

    def __getitem__(self, where: tuple[slice, ...]) -> np.ndarray:
        wanted = iter(where)
        return self._array[tuple(next(wanted) if name in "CYX" else 0 for name in self._names)]


def _told(group: Any) -> dict[str, Any]:
    """What a group says of itself; since version 0.5 below the key "ome"."""
    told = dict(group.attrs)
    return told.get("ome", told)


def _resolutions(image: dict[str, Any], units: list[str], names: str) -> list[tuple[float, str]]:
    """The scale of level 0: its own times that of all levels."""
    scales = [
        np.asarray(each["scale"], float)
        for of in (image["datasets"][0], image)
        for each in of.get("coordinateTransformations", ())
        if each.get("type") == "scale" and each.get("scale")
    ]
    if not scales:
        return []
    scale = np.prod(scales, axis=0)
    x, y = (float(scale[at]) * UM_PER_UNIT.get(units[at], 0.0) for at in map(names.index, "XY"))
    return stated_mpp(x, y, "OME-Zarr scale")
