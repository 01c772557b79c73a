import sys

import numpy as np
import pydicom
import pytest
from dicom_slides import write_dicom

from tiling import ConfigError, FormatError, open_slide
from tiling.dicom_heatmap import dicom_fingerprint, write_dicom_heatmap
from tiling.heatmap import Heatmap

MPP = 0.4991
COMPLETE = {  # what a scanner writes of patient, specimen and place, and a drawn slide does not need
    "PatientID": "", "PatientName": "", "PatientBirthDate": "", "PatientSex": "", "StudyDate": "20200101",
    "StudyTime": "000000", "StudyID": "", "AccessionNumber": "", "ReferringPhysicianName": "",
    "Manufacturer": "scanner", "ManufacturerModelName": "one", "DeviceSerialNumber": "1",
    "SoftwareVersions": "1", "ContainerIdentifier": "glass", "PositionReferenceIndicator": "SLIDE_CORNER",
    "ImageOrientationSlide": [0, -1, 0, -1, 0, 0], "LossyImageCompression": "00",
    "VolumetricProperties": "VOLUME", "IssuerOfTheContainerIdentifierSequence": [],
    "ContainerTypeCodeSequence": [], "SpecimenDescriptionSequence": [],
}  # fmt: skip


def drawn(tmp_path, **changed):
    whole = np.full((700, 900, 3), 200, np.uint8)
    origin = pydicom.Dataset()
    origin.XOffsetInSlideCoordinateSystem = origin.YOffsetInSlideCoordinateSystem = 1
    told = COMPLETE | {"TotalPixelMatrixOriginSequence": [origin]} | changed
    # the slide is asked for by its smallest level
    write_dicom(tmp_path / "s.dcm", [whole, whole[::4, ::4]], MPP, **told)
    return open_slide(tmp_path / "s1.dcm", id="slide")


def heatmaps_of(slide):
    values = np.random.default_rng(0).random((70, 90), dtype=np.float32)
    values[:20] = np.nan
    return {"in situ": Heatmap(values, 10.0, slide.size_px), "肺": Heatmap(1 - values, 10.0, slide.size_px)}


def test_segments_are_classes_with_their_probability_over_the_whole_slide(tmp_path):
    import highdicom

    path = tmp_path / "heat" / "h.dcm"
    with drawn(tmp_path) as slide:
        heatmaps = heatmaps_of(slide)
        assert dicom_fingerprint(path) is None
        write_dicom_heatmap(path, slide, heatmaps, fingerprint="f00")
    assert dicom_fingerprint(path) == "f00"
    found = highdicom.seg.segread(path)
    labels = [found.get_segment_description(k).segment_label for k in (1, 2)]
    assert labels == ["in situ", "肺"]
    pixels = found.get_total_pixel_matrix(combine_segments=False, rescale_fractional=True)
    for channel, heatmap in enumerate(heatmaps.values()):
        expected = np.nan_to_num(heatmap.values)
        np.testing.assert_allclose(pixels[..., channel], expected, atol=0.5 / 255 + 1e-6)
    measures = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    extent_mm = np.multiply(measures.PixelSpacing, (70, 90))
    np.testing.assert_allclose(extent_mm * 1000, np.multiply((700, 900), MPP), rtol=1e-6)
    source = pydicom.dcmread(tmp_path / "s.dcm")
    (refers,) = found.SourceImageSequence
    assert refers.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert found.FrameOfReferenceUID == source.FrameOfReferenceUID
    # the origin is the centre of the first pixel; rows run along -y of the glass, columns along -x
    (origin,) = found.TotalPixelMatrixOriginSequence
    shift_mm = (10 * MPP - MPP) / 2 / 1000
    at = (origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem)
    assert at == pytest.approx((1 - shift_mm, 1 - shift_mm), abs=1e-7)


def test_what_is_no_probability_is_not_laid_to_the_header(tmp_path):
    heatmaps = {"tumour": Heatmap(np.full((70, 90), 1.5, np.float32), 10.0, (900, 700))}
    with drawn(tmp_path) as slide, pytest.raises(ValueError, match=r"slide: values are .* wanted 0 to 1"):
        write_dicom_heatmap(tmp_path / "h.dcm", slide, heatmaps, fingerprint="f")


def test_a_header_that_lacks_something_is_told(tmp_path):
    drawn(tmp_path).close()
    head = pydicom.dcmread(tmp_path / "s.dcm")
    del head.TotalPixelMatrixOriginSequence
    head.save_as(tmp_path / "s.dcm")
    with (
        open_slide(tmp_path / "s1.dcm", id="slide") as slide,
        pytest.raises(FormatError, match="slide: its DICOM header lacks"),
    ):
        write_dicom_heatmap(tmp_path / "h.dcm", slide, heatmaps_of(slide), fingerprint="f")


def test_a_slide_that_is_no_dicom_is_told(tmp_path, phantom):
    with open_slide(phantom.path) as slide, pytest.raises(ConfigError, match="is no DICOM slide"):
        write_dicom_heatmap(tmp_path / "h.dcm", slide, heatmaps_of(slide), fingerprint="f")


def test_how_to_install_is_told(tmp_path, phantom, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with open_slide(phantom.path) as slide, pytest.raises(ConfigError, match="not installed") as told:
        write_dicom_heatmap(tmp_path / "h.dcm", slide, heatmaps_of(slide), fingerprint="f")
    assert "slidebag[dicom]" in str(told.value.hint)
