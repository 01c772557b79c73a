"""Vendor formats by way of OpenSlide."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from .errors import SlideError
from .slide import READERS, Slide
from .square_pixels import stated_mpp
from .tiff_index import absurd_tiles

_UM_PER_UNIT = {"inch": 25400.0, "centimeter": 10000.0}
_BOUNDS = tuple(f"openslide.bounds-{side}" for side in ("x", "y", "width", "height"))


@READERS.register("openslide")
class OpenSlideSlide(Slide):
    """A slide that OpenSlide reads: Aperio, Hamamatsu, MIRAX, Leica, Philips, DICOM, tiled TIFF."""

    reader = "openslide"
    preference = 20

    def __init__(self, path: Path, *, id: str, mpp: float | None, fallback_mpp: float | None) -> None:
        super().__init__(path, id=id, mpp=mpp, fallback_mpp=fallback_mpp)
        self._look_at_header()
        self._is_closed = False
        self._handle = self._open()
        try:
            self.level_sizes_px = self._handle.level_dimensions
            self._downsamples = tuple(float(d) for d in self._handle.level_downsamples)
            self.properties = dict(self._handle.properties)
        except (openslide.OpenSlideError, KeyError, UnicodeDecodeError) as error:
            self.close()
            raise SlideError(
                f"{self.id}: its properties cannot be read ({error!r})",
                hint="copy the file again from its source; its header is damaged",
            ) from error
        background = self.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
        self._background = tuple(bytes.fromhex(background))

    def _look_at_header(self) -> None:
        if absurd := absurd_tiles(self.path):
            raise SlideError(
                f"{self.id}: states {absurd}",
                hint="copy the file again from its source; its header is damaged",
            )

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self.path)
        except openslide.OpenSlideError as error:
            raise SlideError(
                f"{self.id}: cannot be opened ({error})",
                hint=f"check that {self.path.name} is a complete slide file",
            ) from error

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level, as OpenSlide places them; 1.0 first."""
        return self._downsamples

    @property
    def shown_from_px(self) -> tuple[int, int]:
        """(x, y) at level 0 of the scanned area, to which QuPath cuts MIRAX, Leica and some other slides."""
        try:
            x, y, _, _ = (int(self.properties[name]) for name in _BOUNDS)
        except (KeyError, ValueError):  # QuPath shows the whole plane then
            return 0, 0
        return x, y

    def _read(self, x: int, y: int, level: int, size_px: tuple[int, int]) -> np.ndarray:
        try:
            region = self._handle.read_region((x, y), level, size_px)
        except openslide.OpenSlideError as error:
            # OpenSlide refuses every read after a failed one: the other tiles need a fresh handle
            fresh = self._open()
            self._handle.close()
            self._handle = fresh
            raise SlideError(
                f"{self.id}: cannot be read at ({x}, {y}), level {level} ({error})",
                hint="copy the file again from its source; it is damaged or cut short",
            ) from error
        pixels = Image.new("RGB", region.size, self._background)
        pixels.paste(region, mask=region)
        return np.asarray(pixels)

    def _file_resolutions(self) -> list[tuple[float, str]]:
        return [
            *self._pair(openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y, float),
            *self._pair("tiff.XResolution", "tiff.YResolution", self._um_from_tiff),
        ]

    def _um_from_tiff(self, pixels_per_unit: str) -> float:
        um = _UM_PER_UNIT.get(self.properties.get("tiff.ResolutionUnit", ""))
        return um / float(pixels_per_unit) if um and float(pixels_per_unit) else 0.0

    def _pair(self, key_x: str, key_y: str, um: Callable[[str], float]) -> list[tuple[float, str]]:
        """The mean of both directions; none where one is absent or they disagree by more than 2 %."""
        if key_x not in self.properties or key_y not in self.properties:
            return []
        return stated_mpp(um(self.properties[key_x]), um(self.properties[key_y]), key_x)

    def close(self) -> None:
        """Let go of the file; once is enough, twice does no harm."""
        if not self._is_closed:
            self._handle.close()
        self._is_closed = True
