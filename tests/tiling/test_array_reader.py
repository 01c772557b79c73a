"""OME-TIFF, OME-Zarr and pictures of every kind that others write: read right, or refused and told."""

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from tiling import ResolutionError, SlideError, open_slide

PLANES = np.random.default_rng(0).integers(0, 255, (3, 90, 120)).astype(np.uint8)
PIXELS = np.ascontiguousarray(np.moveaxis(PLANES, 0, 2))
SCALE = {"t": 1, "c": 1, "z": 4.0, "y": 0.5, "x": 0.5}


def zarr_slide(folder, data, axes, *, scale=None, told=None, below=""):
    """An OME-Zarr folder of one level; `told` is what its image says beside, `below` the folder it is in."""
    scale = [SCALE[name] for name in axes] if scale is None else scale
    root = zarr.open_group(folder / "a.zarr", mode="w")
    group = root.create_group(below) if below else root
    group.create_array("0", data=data, chunks=data.shape)
    kinds = {"t": "time", "c": "channel"}
    named = [
        {"name": n, "type": kinds.get(n, "space"), **({"unit": "micrometer"} if n in "zyx" else {})}
        for n in axes
    ]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    image = {"axes": named, "datasets": datasets, **(told or {})}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    if below:
        root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    return folder / "a.zarr"


def ome_slide(folder, data, axes, photometric="rgb", **told):
    path = folder / "a.ome.tif"
    tifffile.imwrite(
        path, data, ome=True, photometric=photometric, tile=(64, 64), metadata={"axes": axes, **told}
    )
    return path


def is_right(slide):
    return np.array_equal(slide.read(0, 0, 0, slide.size_px), PIXELS)


@pytest.mark.parametrize("axes", ["cyx", "yxc", "xyc", "tczyx", "czyx", "tcyx"])
def test_an_ome_zarr_of_any_axes_is_read(tmp_path, axes):
    data = PLANES.transpose(["cyx".index(name) for name in axes if name in "cyx"])
    data = np.expand_dims(data, [at for at, name in enumerate(axes) if name in "tz"])
    with open_slide(zarr_slide(tmp_path, np.ascontiguousarray(data), axes)) as slide:
        assert is_right(slide)
        assert (slide.mpp, slide.size_px) == (0.5, (120, 90))


@pytest.mark.parametrize("axes", ["yx", "tczyx"])
def test_a_grey_one_becomes_rgb(tmp_path, axes):
    data = PLANES[0].reshape((1,) * (len(axes) - 2) + PLANES[0].shape)
    with open_slide(zarr_slide(tmp_path, data, axes)) as slide:
        grey = np.repeat(PLANES[0][..., None], 3, axis=2)
        np.testing.assert_array_equal(slide.read(0, 0, 0, slide.size_px), grey)


@pytest.mark.parametrize("axes", ["tcyx", "czyx"])
def test_several_times_or_depths_are_refused_by_their_number(tmp_path, axes):
    data = np.stack([PLANES] * 2, axis=0 if axes[0] == "t" else 1)
    with pytest.raises(SlideError, match="2 times or depths"):
        open_slide(zarr_slide(tmp_path, data, axes))


def test_the_first_image_of_bioformats2raw_is_the_slide(tmp_path):
    data = PLANES[None, :, None]
    with open_slide(zarr_slide(tmp_path, data, "tczyx", below="0")) as slide:
        assert is_right(slide)
        assert slide.mpp == 0.5


@pytest.mark.parametrize(("axes", "data"), [(list("cyx"), PLANES), (None, PLANES[None, :, None])])
def test_axes_are_told_otherwise_before_version_04(tmp_path, axes, data):
    path = zarr_slide(tmp_path, data, "cyx" if axes else "tczyx", told={"axes": axes})
    group = zarr.open_group(path)
    told = group.attrs["ome"]
    del told["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    if axes is None:
        del told["multiscales"][0]["axes"]
    group.attrs["ome"] = told
    with open_slide(path, mpp=0.5) as slide:
        assert is_right(slide)


@pytest.mark.parametrize("axes", ["yx", [3, "y", "x"], 5, [{}, {}, {}]])
def test_axes_that_make_no_sense_are_told(tmp_path, axes):
    with pytest.raises(SlideError, match="no OME-Zarr image"):
        open_slide(zarr_slide(tmp_path, PLANES, "cyx", told={"axes": axes}))


def test_the_scale_of_all_levels_counts_too(tmp_path):
    of_all = [{"type": "scale", "scale": [1, 0.25, 0.25]}]
    path = zarr_slide(tmp_path, PLANES, "cyx", scale=[1, 2, 2], told={"coordinateTransformations": of_all})
    with open_slide(path) as slide:
        assert slide.mpp == 0.5


def _zarr_of(folder, x, y):
    return zarr_slide(folder, PLANES, "cyx", scale=[1, y, x])


def _tiff_of(folder, x, y):
    return ome_slide(folder, PIXELS, "YXS", PhysicalSizeX=x, PhysicalSizeY=y)


@pytest.mark.parametrize("write", [_zarr_of, _tiff_of])
def test_pixels_that_are_not_square_have_no_resolution(tmp_path, write):
    with open_slide(write(tmp_path, 0.5, 1.0)) as slide, pytest.raises(ResolutionError):
        slide.resolution  # noqa: B018
    with open_slide(write(tmp_path, 0.5, 0.502)) as slide:
        assert slide.mpp == pytest.approx(0.501)


def test_sizes_in_any_unit_and_one_size_alone_are_understood(tmp_path):
    units = {"PhysicalSizeXUnit": "\u03bcm", "PhysicalSizeYUnit": "nm"}  # the letter, not the micro sign
    with open_slide(
        ome_slide(tmp_path, PIXELS, "YXS", PhysicalSizeX=0.5, PhysicalSizeY=500, **units)
    ) as slide:
        assert slide.mpp == 0.5
    with open_slide(ome_slide(tmp_path, PIXELS, "YXS", PhysicalSizeX=0.5)) as slide:
        assert slide.mpp == 0.5


@pytest.mark.parametrize(("axes", "n", "dtype"), [("CYX", 5, "u1"), ("ZYX", 4, "u1"), ("CYX", 3, "u2")])
def test_several_pictures_in_one_are_refused_not_read_in_part(tmp_path, axes, n, dtype):
    path = ome_slide(tmp_path, np.stack([PLANES[0]] * n).astype(dtype), axes, "minisblack")
    with pytest.raises(SlideError, match=f"of {n} pictures .*8-bit RGB"):
        open_slide(path)


def test_three_planes_of_bytes_are_the_colours_of_one(tmp_path):
    with open_slide(ome_slide(tmp_path, PLANES, "CYX", "minisblack")) as slide:
        assert is_right(slide)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.int32), ("a.tif", np.float32)],
)
def test_deep_grey_is_refused_not_cut_off(tmp_path, name, dtype):
    Image.fromarray(PLANES[0].astype(dtype) * 200).save(tmp_path / name)
    with pytest.raises(SlideError, match=r"16 or 32 bits .*8-bit RGB"):
        open_slide(tmp_path / name, mpp=0.5)
