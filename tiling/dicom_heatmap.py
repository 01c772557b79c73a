"""The probability of tiles as a DICOM segmentation that refers to the DICOM slide it is of."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ConfigError, FormatError
from .files import replacing
from .heatmap import Heatmap
from .raster import pyramid_of
from .slide import Slide
from .wsidicom_reader import dicom_errors, series_uid

_TILE_PX = 256
_SCALE = 255  # of probability 1
_LONGEST = 64  # letters of a label in DICOM
_MARK = "slidebag "
_ASKED = ("SeriesInstanceUID", "TotalPixelMatrixColumns", "TotalPixelMatrixRows", "ImageType")


def write_dicom_heatmap(
    path: Path, slide: Slide, heatmaps: Mapping[str, Heatmap], *, fingerprint: str
) -> None:
    """Write heatmaps as the segments of a fractional DICOM segmentation of a DICOM slide.

    A segment's pixel is its probability in steps of 1/255; what has no score is 0, since a segmentation
    has no word for that. The pixels span exactly the slide, in its frame of reference.

    Args:
        path: the file; it takes its place only when it is whole.
        slide: a slide of a DICOM series.
        heatmaps: by name of the class, which becomes the segment's label; all of one raster.
        fingerprint: kept in the file for `dicom_fingerprint`.

    Raises:
        ConfigError: the slide is no DICOM, or highdicom is not installed.
        FormatError: the slide's header lacks what a segmentation must refer to.
        ValueError: a value is no probability, or the heatmaps are of different rasters.
    """
    try:
        import highdicom
    except ImportError as error:
        raise ConfigError(
            f"{slide.id}: highdicom is not installed, by which DICOM is written",
            hint="pip install 'slidebag[dicom]'",
        ) from error
    source = _source(slide)
    probability = np.nan_to_num(np.moveaxis(pyramid_of(heatmaps, slide.id)[0][0], 0, -1)[None])
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError(
            f"{slide.id}: values are {probability.min():g} to {probability.max():g}, wanted 0 to 1"
        )
    height, width = probability.shape[1:3]
    spacing_mm = (slide.mpp * slide.size_px[1] / height / 1000, slide.mpp * slide.size_px[0] / width / 1000)
    try:
        segmentation = highdicom.seg.Segmentation(
            source_images=[source],
            pixel_array=probability,
            segmentation_type="FRACTIONAL",
            fractional_type="PROBABILITY",
            max_fractional_value=_SCALE,
            segment_descriptions=[_segment(number, name) for number, name in enumerate(heatmaps, 1)],
            pixel_measures=highdicom.PixelMeasuresSequence(spacing_mm, slice_thickness=0.001),
            plane_positions=[_position(source, spacing_mm, slide.mpp / 1000)],
            tile_pixel_array=True,
            tile_size=(_TILE_PX, _TILE_PX),
            omit_empty_frames=False,
            dimension_organization_type="TILED_FULL",
            content_label="HEATMAP",
            content_description=_MARK + fingerprint,
            **_identity(),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{slide.id}: its DICOM header lacks what a segmentation refers to ({error})",
            hint="leave out --format dicom, or complete the header of the slide",
        ) from error
    with replacing(path) as temporary:
        segmentation.save_as(temporary)


def dicom_fingerprint(path: Path) -> str | None:
    """Return the fingerprint in a file of `write_dicom_heatmap`, None where there is none to trust."""
    import pydicom

    try:
        head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["ContentDescription"])
        found = str(head.get("ContentDescription", ""))
    except dicom_errors():
        return None  # absent or damaged: to be made again
    return found.removeprefix(_MARK) if found.startswith(_MARK) else None


def _source(slide: Slide) -> Any:
    """The header of the file of the series that holds the slide's level 0."""
    import pydicom

    uid = series_uid(slide.path)
    if not uid:
        raise ConfigError(
            f"{slide.id}: is no DICOM slide, so there is no DICOM segmentation of it",
            hint="leave out --format dicom",
        )
    for path in [slide.path, *sorted(slide.path.parent.glob("*.dcm"))]:
        if series_uid(path) != uid:
            continue
        head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_ASKED])
        if (head.get("TotalPixelMatrixColumns"), head.get("TotalPixelMatrixRows")) == slide.size_px:
            return pydicom.dcmread(path, stop_before_pixels=True)
    raise FormatError(
        f"{slide.id}: no file of its series has {slide.size_px[0]} × {slide.size_px[1]} px",
        hint="keep all files of the series in one folder",
    )


def _position(source: Any, spacing_mm: tuple[float, float], source_spacing_mm: float) -> Any:
    """The centre of the first pixel, which is what an origin is: in larger pixels it lies further in."""
    import highdicom

    (origin,) = source.TotalPixelMatrixOriginSequence
    along_row, along_column = np.reshape(source.ImageOrientationSlide, (2, 3)).astype(float)
    down, right = ((side - source_spacing_mm) / 2 for side in spacing_mm)
    at = [float(origin.get(f"{axis}OffsetInSlideCoordinateSystem", 0)) for axis in "XYZ"]
    return highdicom.PlanePositionSequence(
        "SLIDE", (at + right * along_row + down * along_column).tolist(), (1, 1)
    )


def _segment(number: int, class_name: str) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    label = class_name.encode(errors="replace").decode()[:_LONGEST].replace("\\", "/") or "?"
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.Tissue,
        # a class is whatever the user's table calls it, for which no dictionary has a code
        segmented_property_type=highdicom.sr.CodedConcept(f"class{number}", "99SLIDEBAG", label),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="slidebag", family=codes.DCM.ArtificialIntelligence, version=version("slidebag")
        ),
    )


def _identity() -> dict[str, Any]:
    """Who made the file; ids are new each time, as DICOM wants them."""
    import highdicom

    return {
        "series_instance_uid": highdicom.UID(),
        "series_number": 1,
        "sop_instance_uid": highdicom.UID(),
        "instance_number": 1,
        "manufacturer": "slidebag",
        "manufacturer_model_name": "slidebag",
        "software_versions": version("slidebag"),
        "device_serial_number": "0",
        "specific_character_set": "ISO_IR 192",  # UTF-8, for the names of classes
    }
