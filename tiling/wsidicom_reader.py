"""DICOM slides whose compression or tiling OpenSlide does not know, by way of wsidicom."""

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .array_reader import ArraySlide
from .errors import SlideError
from .slide import READERS, Unsuited
from .square_pixels import stated_mpp
from .tiff_index import DAMAGED

_MOST_TILE_PX = 1 << 26  # a damaged header, or a hostile one
_MOST_TILES = 1 << 24
_WAY_OUT = "copy the whole series again from its source; it is damaged or no slide"


@READERS.register("wsidicom")
class WsiDicomSlide(ArraySlide):
    """A DICOM series of whole-slide images: RLE, JPEG-LS, HTJ2K, JPEG XL, big endian, sparse tiling, grey."""

    reader = "wsidicom"
    preference = 25
    suffixes = frozenset({".dcm"})

    def _open_arrays(self) -> None:
        import wsidicom  # as slow to import as all the rest of this package

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is wrong in the patient's data is not asked here
                self._wsi = wsidicom.WsiDicom.open(self._series())
        except dicom_errors() as error:
            raise SlideError(
                f"{self.id}: cannot be opened as DICOM ({_text(error)})", hint=_WAY_OUT
            ) from error
        try:
            self._describe()
        except dicom_errors() as error:
            self.close()
            raise SlideError(
                f"{self.id}: its header cannot be read ({_text(error)})", hint=_WAY_OUT
            ) from error

    def _describe(self) -> None:
        levels = self._wsi.pyramid.levels
        for level in levels:
            width, height = level.tile_size.to_tuple()
            columns, rows = (
                -(-side // tile) for side, tile in zip(level.size.to_tuple(), (width, height), strict=True)
            )
            if width * height > _MOST_TILE_PX or columns * rows > _MOST_TILES:
                raise ValueError(f"{columns} × {rows} tiles of {width} × {height} px")
        image = levels[0].default_instance.image_data
        samples = image.samples_per_pixel
        self._axes = "YXS" if samples > 1 else "YX"
        self._arrays = [_Level(self._wsi, level, samples, image.bits) for level in levels]
        for level in self._arrays:
            level.check()
        self._stated = self._resolutions()
        self.properties = {
            "dicom.SeriesInstanceUID": str(self._wsi.uids.series_instance if self._wsi.uids else ""),
            "dicom.TransferSyntaxUID": str(image.transfer_syntax),
            "dicom.PhotometricInterpretation": str(image.photometric_interpretation),
        }

    def _check(self) -> None:
        super()._check()
        n_channels = len(self._wsi.pyramid.levels[0].optical_paths)
        if n_channels > 1:  # only the first would be read
            raise SlideError(
                f"{self.id}: holds {n_channels} channels, each a picture of its own",
                hint="convert it to 8-bit RGB, as an OME-TIFF or a tiled TIFF",
            )

    def _series(self) -> list[Path]:
        """The file and those beside it that belong to its series."""
        uid = series_uid(self.path)
        if not uid:
            raise Unsuited(f"{self.id}: is no DICOM file of a series")
        beside = (p for p in self.path.parent.iterdir() if p.suffix.lower() == ".dcm" and p != self.path)
        return [self.path, *sorted(p for p in beside if series_uid(p) == uid)]

    def _resolutions(self) -> list[tuple[float, str]]:
        """The mean of both directions; none where they disagree by more than 2 %."""
        spacing = self._wsi.pixel_spacing
        return stated_mpp(spacing.width * 1000, spacing.height * 1000, "DICOM PixelSpacing")

    def close(self) -> None:
        """Let go of the files."""
        super().close()
        self._wsi.close()


class _Level:
    """A level of a DICOM pyramid as an array that is read where it is sliced."""

    def __init__(self, wsi: Any, level: Any, samples: int, bits: int) -> None:
        self._wsi, self._level = wsi, level.level
        width, height = level.size.to_tuple()
        self.shape = (height, width, samples) if samples > 1 else (height, width)
        self.dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)

    def check(self) -> None:
        """Raise OSError where neither the first, the middle nor the last frame can be read."""
        problems = []
        for share in (0, 0.5, 1):
            row, column = (round((side - 1) * share) for side in self.shape[:2])
            try:
                self[row : row + 1, column : column + 1]
            except OSError as error:
                problems.append(error)
        if len(problems) == 3:
            raise problems[0]

    def __getitem__(self, where: tuple[slice, ...]) -> np.ndarray:
        rows, columns = where[:2]
        size_px = (columns.stop - columns.start, rows.stop - rows.start)
        try:
            part = self._wsi.read_region((columns.start, rows.start), self._level, size_px, as_array=True)
        except dicom_errors() as error:
            raise OSError(_text(error)) from error
        return part.reshape(rows.stop - rows.start, columns.stop - columns.start, *self.shape[2:])


def series_uid(path: Path) -> str:
    """Return the SeriesInstanceUID of a file, "" if it has none that can be read."""
    import pydicom

    try:
        head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(head.get("SeriesInstanceUID", ""))
    except dicom_errors():
        return ""


@cache
def dicom_errors() -> tuple[type[Exception], ...]:
    """Return what wsidicom and pydicom raise on damaged files; their errors have no bases of their own."""
    import pydicom.errors
    import wsidicom.errors

    # it logs what it also raises; an application that wants to see that sets up logging
    logging.getLogger("wsidicom").addHandler(logging.NullHandler())
    logging.getLogger("pydicom").addHandler(logging.NullHandler())
    theirs = [*vars(wsidicom.errors).values(), *vars(pydicom.errors).values()]
    own = [e for e in theirs if isinstance(e, type) and issubclass(e, Exception)]
    return (*own, *DAMAGED, AttributeError, EOFError, RuntimeError, AssertionError)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
