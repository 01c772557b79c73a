import numpy as np
import pytest
import zarr

from tiling.heatmap import Heatmap
from tiling.zarr_heatmap import write_zarr_heatmap, zarr_fingerprint

SIZE_PX, MPP = (50_003, 30_001), 0.2628


def written(path, **options):
    values = np.random.default_rng(0).random((469, 782), dtype=np.float32)
    values[:100, :100] = np.nan
    heatmaps = {"in situ": Heatmap(values, 64.0, SIZE_PX), "invasive": Heatmap(1 - values, 64.0, SIZE_PX)}
    write_zarr_heatmap(path, heatmaps, MPP, slide_id="slide", fingerprint="f00", **options)
    return zarr.open_group(path, mode="r"), values


def test_every_level_spans_the_slide_and_channels_are_classes(tmp_path):
    group, values = written(tmp_path / "h.ome.zarr", about={"threshold": "0.5"})
    told = group.attrs["ome"]
    assert (told["version"], group.attrs["threshold"]) == ("0.5", "0.5")
    assert [c["label"] for c in told["omero"]["channels"]] == ["in situ", "invasive"]
    (image,) = told["multiscales"]
    assert [(a["name"], a.get("unit")) for a in image["axes"]] == [
        ("c", None), ("y", "micrometer"), ("x", "micrometer"),
    ]  # fmt: skip
    assert len(image["datasets"]) == 3
    for each in image["datasets"]:
        shape = group[each["path"]].shape
        scale, translation = each["coordinateTransformations"]
        for axis, side in ((1, SIZE_PX[1]), (2, SIZE_PX[0])):
            um, shift = scale["scale"][axis], translation["translation"][axis]
            assert um * shape[axis] == pytest.approx(side * MPP)
            assert shift - um / 2 == pytest.approx(-MPP / 2)  # the left edge of the slide's first pixel
    first = group["0"]
    assert first.dtype == np.float32
    expected = Heatmap(values, 64.0, SIZE_PX).resampled((782, 469))
    np.testing.assert_array_equal(first[0], expected)
    assert first.metadata.zarr_format == 3


def test_the_fingerprint_comes_back_and_the_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "h.ome.zarr"
    assert zarr_fingerprint(path) is None
    written(path)
    (path / "stray").write_text("x")
    assert zarr_fingerprint(path) == "f00"
    written(path)
    assert not (path / "stray").exists()
    (path / "zarr.json").write_text("{")
    assert zarr_fingerprint(path) is None
    (path / "zarr.json").write_text("{}")
    assert zarr_fingerprint(path) is None
