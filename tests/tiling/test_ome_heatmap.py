from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from tiling import paint
from tiling.heatmap import Heatmap
from tiling.ome_heatmap import write_ome_heatmap
from tiling.ome_metadata import ome_fingerprint

SIZE_PX, MPP = (100_003, 61_001), 0.2628
HOSTILE = 'a<b> & "c" \x00\n\udcff 肺'


def make_heatmap(seed=0, px=64.0, size_px=SIZE_PX):
    shape = tuple(int(np.ceil(side / px)) for side in size_px[::-1])
    values = np.random.default_rng(seed).random(shape, dtype=np.float32)
    values[:300, :500] = np.nan
    return Heatmap(values, px, size_px)


def written(path, heatmaps, mpp=MPP, **options):
    write_ome_heatmap(path, heatmaps, mpp, **{"slide_id": "slide", "fingerprint": "f00", **options})
    return path


def pixels_of(path):
    with tifffile.TiffFile(path) as file:
        root = ElementTree.fromstring(file.ome_metadata)
    return next(e for e in root.iter() if e.tag.endswith("Pixels"))


def test_the_physical_extent_is_the_slides(tmp_path):
    pixels = pixels_of(written(tmp_path / "h.ome.tiff", {"tumour": make_heatmap()}))
    for axis, side in zip("XY", SIZE_PX, strict=True):
        extent_um = int(pixels.get(f"Size{axis}")) * float(pixels.get(f"PhysicalSize{axis}"))
        assert extent_um == pytest.approx(side * MPP, rel=1e-9)
        assert pixels.get(f"PhysicalSize{axis}Unit") == "µm"


def test_values_are_probabilities_as_they_are_and_nan_where_nothing_is(tmp_path):
    one, other = (
        make_heatmap(0, px=50.0, size_px=(5000, 4000)),
        make_heatmap(1, px=50.0, size_px=(5000, 4000)),
    )
    path = written(tmp_path / "h.ome.tiff", {"in situ": one, "invasive": other})
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "CYX"
        np.testing.assert_array_equal(file.asarray(), np.stack([one.values, other.values]))
    names = [e.get("Name") for e in pixels_of(path).iter() if e.tag.endswith("Channel")]
    assert names == ["in situ", "invasive"]


def test_levels_are_halves_that_hold_the_mean_of_what_is_scored(tmp_path):
    heatmap = make_heatmap(px=100.0, size_px=(102_400, 51_200))
    with tifffile.TiffFile(written(tmp_path / "h.ome.tiff", {"tumour": heatmap})) as file:
        levels = [level.asarray() for level in file.series[0].levels]
        assert all(page.is_tiled for level in file.series[0].levels for page in level.pages)
    assert [level.shape for level in levels] == [(512, 1024), (256, 512), (128, 256)]
    blocks = levels[0].reshape(256, 2, 512, 2).transpose(0, 2, 1, 3).reshape(256, 512, 4)
    is_scored = ~np.isnan(blocks).all(axis=2)
    np.testing.assert_array_equal(~np.isnan(levels[1]), is_scored)
    expected = np.nanmean(blocks[is_scored], axis=1)
    np.testing.assert_allclose(levels[1][is_scored], expected, atol=1e-6)


@pytest.mark.parametrize(("mpp", "overlap_px"), [(0.2628, 0), (0.4991, 25)])
def test_a_tile_in_the_far_corner_of_a_large_slide_is_within_a_pixel_of_its_place(
    tmp_path, make_lattice, mpp, overlap_px
):
    grid = make_lattice((100_003, 90_017), mpp=mpp, overlap_px=overlap_px)
    scores = np.zeros(len(grid))
    scores[-1] = 1
    path = written(tmp_path / "h.ome.tiff", {"tumour": paint(grid, scores)}, mpp=mpp)
    pixels = pixels_of(path)
    with tifffile.TiffFile(path) as file:
        rows, columns = np.nonzero(file.asarray() > 0)
    for axis, cells, corner in zip("XY", (columns, rows), grid.coords[-1], strict=True):
        um = float(pixels.get(f"PhysicalSize{axis}"))
        assert cells.min() * um == pytest.approx(corner * mpp, abs=um + mpp)
        end_um = corner * mpp + grid.config.tile_px * grid.config.tile_mpp
        assert (cells.max() + 1) * um == pytest.approx(end_um, abs=um + mpp)


def test_fingerprint_and_what_is_told_come_back(tmp_path):
    path = tmp_path / "h.ome.tiff"
    assert ome_fingerprint(path) is None
    told = {"threshold": "0.5", HOSTILE: HOSTILE}
    written(path, {HOSTILE: make_heatmap(px=500.0)}, slide_id=HOSTILE, about=told)
    assert ome_fingerprint(path) == "f00"
    with tifffile.TiffFile(path) as file:
        keys = {e.get("K"): e.text for e in ElementTree.fromstring(file.ome_metadata).iter() if e.get("K")}
    assert keys["threshold"] == "0.5"
    assert 'a<b> & "c"' in str(keys)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], b"no TIFF"):
        path.write_bytes(damaged)
        assert ome_fingerprint(path) is None
    with tifffile.TiffWriter(path) as other:
        other.write(np.zeros((8, 8), np.uint8))
    assert ome_fingerprint(path) is None


def test_heatmaps_of_several_rasters_are_refused(tmp_path):
    with pytest.raises(ValueError, match="slide: heatmaps are of 2 rasters"):
        written(tmp_path / "h.ome.tiff", {"a": make_heatmap(px=500.0), "b": make_heatmap(px=400.0)})
    with pytest.raises(ValueError, match="0 rasters"):
        written(tmp_path / "h.ome.tiff", {})
