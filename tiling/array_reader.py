"""Slides whose levels are arrays: OME-TIFF, OME-Zarr, and plain pictures."""

import hashlib
import json
import math
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
import zarr
import zarr.errors
from PIL import Image

from .errors import SlideError
from .slide import READERS, Slide, Unsuited
from .tiff_index import DAMAGED, absurd_tiles

_UM_PER_UNIT = {"µm": 1.0, "um": 1.0, "micrometer": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3,
                "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4}  # fmt: skip
_WAY_OUT = "convert it to 8-bit RGB, as an OME-TIFF or a tiled TIFF"


class ArraySlide(Slide):
    """A slide read by slicing arrays; a subclass opens them.

    `_arrays` are the levels, each of the axes in `_axes` ("YXS", "SYX" or "YX"), uint8; grey becomes RGB.
    """

    _arrays: list[Any]
    _axes: str
    _stated: list[tuple[float, str]]

    def __init__(self, path: Path, *, id: str, mpp: float | None, fallback_mpp: float | None) -> None:
        super().__init__(path, id=id, mpp=mpp, fallback_mpp=fallback_mpp)
        self.properties = {}
        self._stated = []
        self._open_arrays()
        try:
            self._check()
        except SlideError:
            self.close()
            raise
        rows, columns = self._axes.index("Y"), self._axes.index("X")
        self.level_sizes_px = tuple((a.shape[columns], a.shape[rows]) for a in self._arrays)

    @abstractmethod
    def _open_arrays(self) -> None:
        """Set `_arrays`, `_axes`, and what is known of the resolution."""

    def _check(self) -> None:
        first = self._arrays[0]
        n_channels = first.shape[self._axes.index("S")] if "S" in self._axes else 1
        if first.dtype != np.uint8 or n_channels not in (1, 3, 4):
            raise SlideError(f"{self.id}: holds {n_channels} channels of {first.dtype}", hint=_WAY_OUT)

    def _read(self, x: int, y: int, level: int, size_px: tuple[int, int]) -> np.ndarray:
        down = self.downsamples[level]
        left, top = round(x / down), round(y / down)
        width, height = self.level_sizes_px[level]
        out = np.full((size_px[1], size_px[0], 3), 255, np.uint8)
        x0, y0, x1, y1 = (
            max(left, 0),
            max(top, 0),
            min(left + size_px[0], width),
            min(top + size_px[1], height),
        )
        if x0 < x1 and y0 < y1:
            out[y0 - top : y1 - top, x0 - left : x1 - left] = self._slice(level, slice(y0, y1), slice(x0, x1))
        return out

    def _slice(self, level: int, rows: slice, columns: slice) -> np.ndarray:
        where = {"Y": rows, "X": columns, "S": slice(0, 3)}
        try:
            part = np.asarray(self._arrays[level][tuple(where[axis] for axis in self._axes)])
        except (OSError, ValueError, RuntimeError, zarr.errors.BaseZarrError) as error:
            raise SlideError(
                f"{self.id}: cannot be read at level {level} ({error})",
                hint="copy the file again from its source; it is damaged or cut short",
            ) from error
        if "S" not in self._axes:
            return np.broadcast_to(part[..., None], (*part.shape, 3))
        return np.moveaxis(part, self._axes.index("S"), -1)

    def _file_resolutions(self) -> list[tuple[float, str]]:
        return self._stated

    def close(self) -> None:
        """Let go of the file."""
        self._arrays = []


@READERS.register("ome-tiff")
class OmeTiffSlide(ArraySlide):
    """An OME-TIFF: its first image, with the pyramid in the sub-images."""

    reader = "ome-tiff"
    preference = 5
    suffixes = frozenset({".tif", ".tiff", ".btf", ".tf8"})

    def _open_arrays(self) -> None:
        try:
            self._file = tifffile.TiffFile(self.path)
        except (*DAMAGED, MemoryError) as error:
            raise Unsuited(f"{self.id}: tifffile does not open it ({error})") from error
        try:
            is_ome = self._file.is_ome
        except DAMAGED as error:
            self._file.close()
            raise Unsuited(f"{self.id}: tifffile does not open it ({error})") from error
        if not is_ome:
            self._file.close()
            raise Unsuited(f"{self.id}: is no OME-TIFF")
        try:
            series = self._file.series[0]
            self._refuse_absurd(series.levels)
            self._axes = series.axes.replace("C", "S")
            stores = [zarr.open(level.aszarr(), mode="r") for level in series.levels]
            self._arrays = [s if isinstance(s, zarr.Array) else s["0"] for s in stores]
            self._stated = self._resolutions(self._file.ome_metadata or "")
        except (*DAMAGED, ElementTree.ParseError, zarr.errors.BaseZarrError) as error:
            self._file.close()
            raise SlideError(
                f"{self.id}: its OME header cannot be read ({error})",
                hint="copy the file again from its source; its header is damaged",
            ) from error
        if sorted(self._axes) not in (sorted("YXS"), sorted("YX")):
            self._file.close()
            raise SlideError(f"{self.id}: its first image has the axes {series.axes}", hint=_WAY_OUT)

    def _refuse_absurd(self, levels: list[tifffile.TiffPageSeries]) -> None:
        """Raise ValueError where tiles are stated that cannot be, before their pixels are asked for."""
        if absurd := absurd_tiles(self.path):
            raise ValueError(f"it states {absurd}")
        for level in levels:
            for page in level.pages:
                if page is not None and len(page.dataoffsets) < math.prod(page.chunked):
                    raise ValueError(
                        f"it lists {len(page.dataoffsets)} tiles, {math.prod(page.chunked)} are due"
                    )

    def _resolutions(self, text: str) -> list[tuple[float, str]]:
        pixels = next((e for e in ElementTree.fromstring(text).iter() if e.tag.endswith("Pixels")), None)
        size = pixels.get("PhysicalSizeX") if pixels is not None else None
        if pixels is None or size is None:
            return []
        um = _UM_PER_UNIT.get(pixels.get("PhysicalSizeXUnit", "µm"), 0.0)
        return [(float(size) * um, "OME PhysicalSizeX")] if um else []

    def close(self) -> None:
        """Let go of the file."""
        super().close()
        self._file.close()


@READERS.register("ome-zarr")
class OmeZarrSlide(ArraySlide):
    """An OME-Zarr folder: the levels of its first multiscale image, of 8-bit channels."""

    reader = "ome-zarr"
    preference = 5
    suffixes = frozenset({".zarr"})

    def _open_arrays(self) -> None:
        try:
            group = zarr.open_group(self.path, mode="r")
            told: Any = dict(group.attrs)
            image = told.get("ome", told)["multiscales"][0]
            self._arrays = [group[each["path"]] for each in image["datasets"]]
        except (zarr.errors.BaseZarrError, OSError, KeyError, IndexError, ValueError, TypeError) as error:
            raise SlideError(
                f"{self.id}: is no OME-Zarr image ({error})",
                hint="name the folder that holds its multiscales",
            ) from error
        names = [axis["name"].upper() for axis in image["axes"]]
        n_spare = len(names) - len([n for n in names if n in "CYX"])
        if any(side != 1 for side in self._arrays[0].shape[:n_spare]):
            raise SlideError(f"{self.id}: has several times or depths", hint=_WAY_OUT)
        self._axes = "".join(names[n_spare:]).replace("C", "S")
        self._arrays = [_WithoutSpare(array, n_spare) for array in self._arrays]
        scales = image["datasets"][0].get("coordinateTransformations", [])
        scale = next((t["scale"] for t in scales if t.get("type") == "scale"), None)
        um = _UM_PER_UNIT.get(image["axes"][-1].get("unit", ""), 0.0)
        self._stated = [(scale[-1] * um, "OME-Zarr scale")] if scale and um else []

    def identify(self) -> str:
        """Return the identity of the folder as it is now: name, size and time of change of each file."""
        digest = hashlib.sha256()
        for file in sorted(p for p in self.path.rglob("*") if p.is_file()):
            stat = file.stat()
            told = (file.relative_to(self.path).as_posix(), stat.st_size, stat.st_mtime_ns)
            digest.update(json.dumps(told).encode())
        return digest.hexdigest()[:16]


class _WithoutSpare:
    """An array without its first axes, all of length one."""

    def __init__(self, array: Any, n_spare: int) -> None:
        self._array, self._n_spare = array, n_spare
        self.shape, self.dtype = array.shape[n_spare:], array.dtype

    def __getitem__(self, where: tuple[slice, ...]) -> np.ndarray:
        return self._array[(0,) * self._n_spare + where]


@READERS.register("picture")
class PictureSlide(ArraySlide):
    """A plain picture (PNG, JPEG, BMP, WebP, TIFF in strips) with one level; its resolution must be given."""

    reader = "picture"
    preference = 30
    suffixes = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})

    def _open_arrays(self) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", Image.DecompressionBombWarning
                )  # the error comes at twice as much
                with Image.open(self.path) as picture:
                    over_white = Image.new("RGB", picture.size, "white")
                    seen = picture.convert("RGBA")
                    over_white.paste(seen, mask=seen)
        except Image.DecompressionBombError as error:
            raise SlideError(f"{self.id}: too large for a plain picture ({error})", hint=_WAY_OUT) from error
        except (OSError, SyntaxError, ValueError) as error:
            raise SlideError(
                f"{self.id}: cannot be opened ({error})",
                hint=f"check that {self.path.name} is a complete picture",
            ) from error
        self._axes, self._arrays = "YXS", [np.asarray(over_white)]
