"""What every reader of slides keeps to, whatever the format."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import zarr
from dicom_slides import write_dicom
from PIL import Image

from tiling import (
    READERS,
    GridConfig,
    ResolutionError,
    SlideError,
    TissueMask,
    Unsuited,
    open_slide,
    read_patches,
    tile_slide,
)


def write_ome_tiff(path, levels, mpp):
    with tifffile.TiffWriter(path, ome=True) as file:
        told = {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
        kind = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb"}
        file.write(levels[0], subifds=len(levels) - 1, metadata=told, **kind)
        for level in levels[1:]:
            file.write(level, subfiletype=1, **kind)


def write_ome_zarr(path, levels, mpp):
    group = zarr.open_group(path, mode="w")
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": n, "type": "space", "unit": "micrometer"} for n in "yx"
    ]
    datasets = []
    for number, level in enumerate(levels):
        group.create_array(
            str(number), data=np.ascontiguousarray(np.moveaxis(level, 2, 0)), chunks=(3, 256, 256)
        )
        scale = {"type": "scale", "scale": [1, mpp * 4**number, mpp * 4**number]}
        datasets.append({"path": str(number), "coordinateTransformations": [scale]})
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def write_picture(path, levels, _mpp):
    Image.fromarray(levels[0]).save(path)


SAMPLES = {  # the suffix of a file that a reader opens, and what writes it; None is the phantom's own file
    "tiled-tiff": (".svs", None),
    "openslide": (".svs", None),
    "ome-tiff": (".ome.tif", write_ome_tiff),
    "ome-zarr": (".zarr", write_ome_zarr),
    "picture": (".png", write_picture),
    "wsidicom": (".dcm", write_dicom),
}


@dataclass(frozen=True)
class Sample:
    """The phantom as a file of one reader's kind; `mpp` is given where the file cannot state it."""

    reader: type
    path: Path
    size_px: tuple[int, int]
    mpp: float

    def open(self, **options):
        given = None if self.reader.reader != "picture" else self.mpp
        return self.reader(self.path, **{"id": "ward/a", "mpp": given, "fallback_mpp": None, **options})


@pytest.fixture(scope="module", params=sorted(READERS))
def sample(request, phantom, tmp_path_factory):
    suffix, write = SAMPLES[request.param]
    path = tmp_path_factory.mktemp("sample") / f"phantom{suffix}"
    if write is None:
        shutil.copy2(phantom.path, path)
    else:
        with open_slide(phantom.path) as slide:
            whole = slide.read(0, 0, 0, slide.size_px)
        height, width = whole.shape[:2]
        small = cv2.resize(whole, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        write(path, [whole, small], phantom.mpp)
    return Sample(READERS[request.param], path, phantom.size_px, phantom.mpp)


@pytest.fixture
def slide(sample):
    with sample.open() as opened:
        yield opened


def test_every_reader_has_a_sample():
    assert set(SAMPLES) == set(READERS)


def test_it_says_what_it_opened(slide, sample):
    assert slide.id == "ward/a"
    assert slide.path == sample.path
    assert slide.size_px == sample.size_px
    assert slide.mpp == pytest.approx(sample.mpp, rel=1e-9)
    assert type(slide.mpp) is float
    assert READERS[slide.reader] is sample.reader
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in slide.properties.items())


def test_levels_shrink(slide):
    assert slide.level_sizes_px[0] == slide.size_px
    assert slide.downsamples[0] == 1
    assert list(slide.downsamples) == sorted(set(slide.downsamples))
    for (width, height), downsample in zip(slide.level_sizes_px, slide.downsamples, strict=True):
        assert width * downsample == pytest.approx(slide.size_px[0], rel=0.02)
        assert height * downsample == pytest.approx(slide.size_px[1], rel=0.02)


@pytest.mark.parametrize("size_px", [(1, 1), (257, 90), (1600, 1203)])
def test_a_region_is_a_uint8_picture_of_the_asked_size(slide, size_px):
    for level in range(len(slide.downsamples)):
        region = slide.read(0, 0, level, size_px)
        assert region.shape == (size_px[1], size_px[0], 3)
        assert region.dtype == np.uint8


def test_a_region_is_where_it_was_asked_for(slide):
    whole = slide.read(0, 0, 0, slide.size_px)
    for x, y, size_px in [(0, 0, (50, 60)), (511, 255, (300, 300)), (1599, 1202, (1, 1))]:
        region = slide.read(x, y, 0, size_px)
        np.testing.assert_array_equal(region, whole[y : y + size_px[1], x : x + size_px[0]])


def test_levels_show_the_same_place(slide):
    whole = slide.read(0, 0, 0, slide.size_px)
    for level, (width, height) in enumerate(slide.level_sizes_px):
        small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        assert np.abs(slide.read(0, 0, level, (width, height)).astype(int) - small).mean() < 4
        down = slide.downsamples[level]
        x, y, side = round(96 * down), round(64 * down), 40
        part = slide.read(x, y, level, (side, side))
        assert np.abs(part.astype(int) - small[64 : 64 + side, 96 : 96 + side]).mean() < 6


def test_beyond_the_border_is_white_on_every_side(slide):
    width, height = slide.size_px
    for x, y in [(-30, 100), (100, -30), (width, 100), (100, height), (width + 9999, -9999)]:
        assert (slide.read(x, y, 0, (30, 30)) == 255).all()


def test_a_read_changes_no_later_one(slide):
    one = slide.read(300, 300, 0, (64, 64)).copy()
    slide.read(0, 0, len(slide.downsamples) - 1, (10, 10))
    slide.read(-5, -5, 0, (10, 10))
    np.testing.assert_array_equal(slide.read(300, 300, 0, (64, 64)), one)


def test_no_such_region_is_a_callers_mistake(slide):
    for level, size_px in [(-1, (5, 5)), (len(slide.downsamples), (5, 5)), (0, (0, 5)), (0, (5, -5))]:
        with pytest.raises(ValueError, match="ward/a"):
            slide.read(0, 0, level, size_px)


def test_given_resolutions_hold(sample):
    with sample.open(mpp=0.3, fallback_mpp=0.7) as slide:
        assert (slide.resolution.mpp, slide.resolution.source) == (0.3, "slide table")
    if sample.reader.reader != "picture":
        with sample.open(fallback_mpp=0.7) as slide:
            assert slide.mpp == pytest.approx(sample.mpp)


def test_what_it_cannot_open_is_said_by_name(sample, tmp_path):
    path = tmp_path / ("a" + "".join(sample.path.suffixes))
    for content in (b"", b"not a slide", sample.path.read_bytes()[:2000] if sample.path.is_file() else b"{}"):
        path.write_bytes(content)
        with pytest.raises((SlideError, Unsuited), match="ward/a"):
            sample.reader(path, id="ward/a", mpp=None, fallback_mpp=None)


def test_the_right_reader_is_found(sample):
    if sample.reader.reader == "openslide":
        pytest.skip("the same file is read faster")
    with open_slide(sample.path, mpp=sample.mpp) as slide:
        assert type(slide) is sample.reader


def test_a_batch_is_the_regions_one_by_one(slide):
    corners = np.array([[0, 0], [300, 200], [-20, 1190], [300, 200], [900, 13]])
    for scale in slide.scales:
        out = np.zeros((5, 90 // scale, 120 // scale, 3), np.uint8)
        assert not slide.read_batch(corners, 0, out, scale=scale).any()
        one = np.stack([slide.read(x, y, 0, (120 // scale * scale, 90 // scale * scale)) for x, y in corners])
        small = np.stack([cv2.resize(o, out.shape[2:0:-1], interpolation=cv2.INTER_AREA) for o in one])
        assert np.abs(out.astype(int) - small).mean() <= (0 if scale == 1 else 4)


@pytest.mark.parametrize("max_tiles", [0, 7])
def test_tiles_come_row_by_row_and_are_read_so(slide, monkeypatch, max_tiles):
    mask = TissueMask(np.ones((9, 12), bool), np.zeros((9, 12, 3), np.uint8), slide.size_px)
    grid = tile_slide(slide, mask, GridConfig(tile_px=150, overlap_px=20, max_tiles=max_tiles))
    assert (np.lexsort(grid.coords.T) == np.arange(len(grid))).all()  # as all these files hold their pixels
    corners = []
    real = slide.read_batch
    monkeypatch.setattr(
        slide, "read_batch", lambda c, *a, **k: corners.extend(c.tolist()) or real(c, *a, **k)
    )
    for _ in read_patches(slide, grid, batch=16):
        pass
    assert corners == grid.coords.tolist()


def test_a_thumbnail_is_whole_and_fine_enough(slide):
    for mpp in (0.5, 1.3, 2.0, 7.7, 30.0):
        small = slide.thumbnail(mpp)
        assert small.shape[1] >= slide.size_px[0] * slide.mpp / mpp * 0.98
        whole = cv2.resize(
            slide.read(0, 0, 0, slide.size_px), small.shape[1::-1], interpolation=cv2.INTER_AREA
        )
        assert np.abs(whole.astype(int) - small).mean() < 4


def test_closing_twice_does_no_harm(sample):
    slide = sample.open()
    slide.close()
    slide.close()


def test_two_handles_of_one_file_do_not_disturb_each_other(sample):
    with sample.open() as one:
        region = one.read(300, 300, 0, (64, 64))
        with sample.open() as two:
            np.testing.assert_array_equal(two.read(300, 300, 0, (64, 64)), region)
        np.testing.assert_array_equal(one.read(300, 300, 0, (64, 64)), region)


def test_identity_follows_the_file_not_its_name(sample, tmp_path):
    path = tmp_path / sample.path.name
    if sample.path.is_dir():
        shutil.copytree(sample.path, path)
        changed = next(p for p in path.rglob("*") if p.is_file())
    else:
        shutil.copy2(sample.path, path)
        changed = path
    with sample.open() as one, open_slide(path, id="other") as two:
        assert one.fingerprint == two.fingerprint
    os.utime(changed, (5, 5))
    with open_slide(path) as slide:
        assert slide.fingerprint != one.fingerprint


@pytest.mark.data
def test_real_files_keep_to_it_too(data_dir):
    names = [
        "CMU-1-Small-Region.svs",
        "tcga-cr-7395-01a-01-ts1.svs",
        "test3-DAPI-2-387.ndpi",
        "idc_14082_4mpp.tif",
    ]
    for name in names:
        with open_slide(data_dir / "slides" / name) as slide:
            last = len(slide.downsamples) - 1
            assert list(slide.downsamples) == sorted(set(slide.downsamples))
            width, height = slide.level_sizes_px[last]
            whole = slide.read(0, 0, last, (width, height))
            part = slide.read(round(20 * slide.downsamples[last]), 0, last, (width - 20, height // 2))
            assert np.abs(part.astype(int) - whole[: height // 2, 20:]).mean() < 2
            try:
                assert 0.05 <= slide.mpp <= 20
            except ResolutionError as error:
                assert "--mpp" in str(error)  # noqa: PT017  one of these slides states none
