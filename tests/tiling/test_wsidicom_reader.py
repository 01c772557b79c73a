"""DICOM slides that OpenSlide leaves: other compressions, sparse tiling, grey."""

import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
from dicom_slides import write_dicom
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, HTJ2KLossless, JPEGLSLossless, RLELossless

from tiling import ResolutionError, SlideError, WsiDicomSlide, open_slide


@pytest.fixture(scope="module")
def pixels(phantom):
    with open_slide(phantom.path) as slide:
        return slide.read(400, 300, 0, (700, 500))


def _frames(one):
    side, samples = one.Rows, one.SamplesPerPixel
    shape = (one.NumberOfFrames, side, side, samples) if samples > 1 else (one.NumberOfFrames, side, side)
    return np.frombuffer(one.PixelData, np.uint8).reshape(shape)


def jpeg_ls(one):
    one.PixelData = encapsulate([imagecodecs.jpegls_encode(frame) for frame in _frames(one)])
    one.file_meta.TransferSyntaxUID = JPEGLSLossless


def high_throughput(one):
    one.PixelData = encapsulate([imagecodecs.htj2k_encode(frame, level=0) for frame in _frames(one)])
    one.file_meta.TransferSyntaxUID = HTJ2KLossless


def jpeg_xl(one):
    one.PixelData = encapsulate([imagecodecs.jpegxl_encode(frame, lossless=True) for frame in _frames(one)])
    one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.110"


def big_endian(one):
    one.file_meta.TransferSyntaxUID = ExplicitVRBigEndian


def run_length(one):
    one.compress(RLELossless, generate_instance_uid=False)


@pytest.mark.parametrize("encode", [run_length, jpeg_ls, jpeg_xl, high_throughput, big_endian])
def test_pixels_are_those_written(tmp_path, pixels, encode):
    write_dicom(tmp_path / "a.dcm", [pixels], 0.5, encode=encode)
    with open_slide(tmp_path / "a.dcm") as slide:
        assert slide.reader == "wsidicom"
        assert any(reason.startswith("openslide: ") for reason in slide.passed_over)
        np.testing.assert_array_equal(slide.read(0, 0, 0, slide.size_px), pixels)
        assert slide.resolution.source == "DICOM PixelSpacing"


def test_tiles_left_out_are_white(tmp_path, pixels):
    sparse = np.full_like(pixels, 255)
    sparse[256:500, :256] = np.minimum(pixels[256:500, :256], 254)
    write_dicom(tmp_path / "a.dcm", [sparse], 0.5, sparse=True)
    with open_slide(tmp_path / "a.dcm") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, slide.size_px), sparse)


def test_grey_becomes_rgb(tmp_path, pixels):
    write_dicom(tmp_path / "a.dcm", [pixels[..., 1]], 0.5)
    with open_slide(tmp_path / "a.dcm") as slide:
        seen = slide.read(0, 0, 0, slide.size_px)
        np.testing.assert_array_equal(seen, np.repeat(pixels[..., 1:2], 3, axis=2))


def test_several_channels_are_refused(tmp_path, pixels):
    def two_channels(one):
        one.OpticalPathSequence = [*one.OpticalPathSequence, Dataset()]
        one.OpticalPathSequence[1].OpticalPathIdentifier = "2"
        one.NumberOfOpticalPaths, one.NumberOfFrames = 2, 2 * one.NumberOfFrames
        one.PixelData = 2 * one.PixelData
        run_length(one)

    write_dicom(tmp_path / "a.dcm", [pixels[..., 1]], 0.5, encode=two_channels)
    with pytest.raises(SlideError, match="holds 2 channels"):
        WsiDicomSlide(tmp_path / "a.dcm", id="a", mpp=None, fallback_mpp=None)


def test_any_file_of_a_series_gives_all_levels_and_no_other_series(tmp_path, pixels):
    write_dicom(tmp_path / "a.dcm", [pixels, pixels[::4, ::4]], 0.5)
    write_dicom(tmp_path / "b.dcm", [np.tile(pixels, (2, 2, 1))], 0.5)
    for name in ("a.dcm", "a1.dcm"):
        with open_slide(tmp_path / name) as slide:
            assert slide.level_sizes_px == ((700, 500), (175, 125))
    with open_slide(tmp_path / "b.dcm") as slide:
        assert slide.level_sizes_px == ((1400, 1000),)


def test_a_broken_frame_costs_only_its_tile(tmp_path, pixels):
    def spoil(one):
        frames = [imagecodecs.jpegls_encode(frame) for frame in _frames(one)]
        frames[1] = frames[1][:40]
        one.PixelData = encapsulate(frames)
        one.file_meta.TransferSyntaxUID = JPEGLSLossless

    write_dicom(tmp_path / "a.dcm", [pixels], 0.5, encode=spoil)
    with open_slide(tmp_path / "a.dcm") as slide:
        with pytest.raises(SlideError, match="cannot be read"):
            slide.read(256, 0, 0, (256, 256))
        np.testing.assert_array_equal(slide.read(0, 0, 0, (256, 256)), pixels[:256, :256])
        np.testing.assert_array_equal(slide.read(0, 256, 0, (256, 244)), pixels[256:, :256])


def test_absurd_tiles_are_refused(tmp_path, pixels):
    write_dicom(tmp_path / "a.dcm", [pixels], 0.5)
    write_dicom(tmp_path / "b.dcm", [pixels], 0.5, encode=lambda one: (run_length(one), _widen(one)))
    with pytest.raises(SlideError):
        open_slide(tmp_path / "b.dcm")


def _widen(one):
    one.Rows = one.Columns = 65000


def test_an_absurd_resolution_is_named(tmp_path, pixels):
    write_dicom(tmp_path / "a.dcm", [pixels], 5000)
    with open_slide(tmp_path / "a.dcm") as slide, pytest.raises(ResolutionError, match="PixelSpacing"):
        _ = slide.mpp


def test_a_file_cut_short_is_told(tmp_path, pixels):
    write_dicom(tmp_path / "a.dcm", [pixels], 0.5)
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[: len(content) // 2])
    with pytest.raises(SlideError), open_slide(tmp_path / "a.dcm") as slide:
        slide.read(0, 0, 0, slide.size_px)


def test_a_number_of_the_wrong_length_costs_only_its_file(tmp_path, pixels):
    write_dicom(tmp_path / "a.dcm", [pixels], 0.5)
    content = bytearray((tmp_path / "a.dcm").read_bytes())
    assert content[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    content[138] = 6  # bytes of the first number, which has four
    (tmp_path / "b.dcm").write_bytes(content)
    with pytest.raises(SlideError):
        open_slide(tmp_path / "b.dcm")
    with open_slide(tmp_path / "a.dcm") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, slide.size_px), pixels)


def test_importing_tiling_imports_no_dicom():
    code = "import sys, tiling; assert not {'wsidicom', 'pydicom'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
