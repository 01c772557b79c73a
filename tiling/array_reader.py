"""Slides whose levels are arrays: OME-TIFF and plain pictures; OME-Zarr is in ome_zarr_reader.py."""

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
from .slide import READERS, Refused, Slide, Unsuited
from .square_pixels import stated_mpp
from .tiff_index import DAMAGED, absurd_tiles, open_tiff

_GREEK_MU = "\u03bc"  # some write it for the micro sign
UM_PER_UNIT = {"µm": 1.0, f"{_GREEK_MU}m": 1.0, "um": 1.0, "micrometer": 1.0, "nm": 1e-3, "nanometer": 1e-3,
               "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4}  # fmt: skip
WAY_OUT = "convert it to 8-bit RGB, as an OME-TIFF or a tiled TIFF"


class ArraySlide(Slide):
    """A slide read by slicing arrays; a subclass opens them.

    `_arrays` are the levels, each of the axes in `_axes` ("YXS", "SYX", "YX", ...), uint8; grey becomes RGB.
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
            raise SlideError(f"{self.id}: holds {n_channels} channels of {first.dtype}", hint=WAY_OUT)

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
        part = part.transpose([self._axes.index(axis) for axis in "YXS" if axis in self._axes])
        return part if "S" in self._axes else np.broadcast_to(part[..., None], (*part.shape, 3))

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
            self._file = open_tiff(self.path)
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
        self._refuse_several(series)
        if sorted(self._axes) not in (sorted("YXS"), sorted("YX")):
            self._file.close()
            raise SlideError(f"{self.id}: its first image has the axes {series.axes}", hint=WAY_OUT)

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

    def _refuse_several(self, series: tifffile.TiffPageSeries) -> None:
        """Raise Refused where the first image is of several pictures that are not the colours of one."""
        is_rgb = sorted(self._axes) == sorted("YXS") and series.shape[0] == 3 and series.dtype == np.uint8
        if len(series.pages) > 1 and not is_rgb:
            self._file.close()
            told = " × ".join(f"{side} {axis}" for axis, side in zip(series.axes, series.shape, strict=True))
            raise Refused(
                f"{self.id}: its first image is of {len(series.pages)} pictures ({told}, {series.dtype})",
                hint=WAY_OUT,
            )

    def _resolutions(self, text: str) -> list[tuple[float, str]]:
        pixels = next((e for e in ElementTree.fromstring(text).iter() if e.tag.endswith("Pixels")), None)
        told = {} if pixels is None else pixels.attrib
        x, y = (
            float(told.get(f"PhysicalSize{axis}", 0))
            * UM_PER_UNIT.get(told.get(f"PhysicalSize{axis}Unit", "µm"), 0.0)
            for axis in "XY"
        )
        return stated_mpp(x, y if "PhysicalSizeY" in told else x, "OME PhysicalSizeX")

    def close(self) -> None:
        """Let go of the file."""
        super().close()
        self._file.close()


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
                    self._refuse_deep(picture)
                    over_white = Image.new("RGB", picture.size, "white")
                    seen = picture.convert("RGBA")
                    over_white.paste(seen, mask=seen)
        except Refused:
            raise
        except Image.DecompressionBombError as error:
            raise SlideError(f"{self.id}: too large for a plain picture ({error})", hint=WAY_OUT) from error
        except (OSError, SyntaxError, ValueError) as error:
            raise SlideError(
                f"{self.id}: cannot be opened ({error})",
                hint=f"check that {self.path.name} is a complete picture",
            ) from error
        self._axes, self._arrays = "YXS", [np.asarray(over_white)]

    def _refuse_deep(self, picture: Image.Image) -> None:
        """Raise Refused for grey of more than 8 bits, which would be cut off at 255 without a word."""
        if picture.mode[0] in "IF":
            raise Refused(f"{self.id}: holds grey of 16 or 32 bits (mode {picture.mode})", hint=WAY_OUT)
