"""slideflow tells the centres of tiles, and their size once for all slides."""

import json

import numpy as np
import pytest

from tiling import FormatError, GridConfig, TissueMask, export_grid, import_grid, tile_slide

SIZE_PX = (8000, 6000)
XY = np.array([[512, 0], [3, 1024], [3584, 2047]])
TOLD = {
    "extractor": {"class": "slideflow.model.extractors.retccl.RetCCLFeatures", "kwargs": {}},
    "normalizer": None, "num_features": 2048, "tile_px": 299, "tile_um": 302,
}  # fmt: skip


@pytest.fixture
def slide(fake_slide):
    return fake_slide(size_px=SIZE_PX, mpp=0.2628, downsamples=(1, 4, 16))


def slideflow(folder, coords=XY, *, side=1149, **changes):
    """Sides are 302 / 0.2628 = 1149.16 px, cut to 1149; a centre is at int(x + 1149 / 2)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bags_config.json").write_text(json.dumps(TOLD | changes))
    np.savez(folder / "fake.index.npz", arr_0=(coords + side / 2).astype(int))
    return folder / "fake.index.npz"


def test_corners_are_half_a_side_before_the_centres(slide, tmp_path):
    grid = import_grid(slideflow(tmp_path), slide, "slideflow")
    np.testing.assert_array_equal(grid.coords, XY)
    assert (grid.config.tile_px, grid.tile_px_level0) == (299, 1149)
    assert grid.config.tile_mpp == pytest.approx(1149 * 0.2628 / 299)


@pytest.mark.parametrize("tile_mpp", [0.5, 0.3, 1.01])
def test_a_grid_goes_there_and_comes_back_as_it_was(slide, tmp_path, tile_mpp):
    mask = TissueMask(np.ones((60, 80), bool), np.zeros((60, 80, 3), np.uint8), SIZE_PX)
    grid = tile_slide(slide, mask, GridConfig(tile_px=224, tile_mpp=tile_mpp, overlap_px=16))
    assert export_grid(grid, tmp_path / "fake.index.npz", "slideflow")
    back = import_grid(tmp_path / "fake.index.npz", slide, "slideflow")
    np.testing.assert_array_equal(back.coords, grid.coords)
    assert (back.config, back.level, back.read_px) == (grid.config, grid.level, grid.read_px)


def test_a_size_told_as_a_magnification_must_be_given(slide, tmp_path):
    path = slideflow(tmp_path, tile_um="20x")
    with pytest.raises(FormatError, match="tile_um '20x'") as caught:
        import_grid(path, slide, "slideflow")
    assert "--tile-mpp" in caught.value.hint
    grid = import_grid(path, slide, "slideflow", tile_px=299, tile_mpp=302 / 299)
    np.testing.assert_array_equal(grid.coords, XY)


def test_damaged_files_are_told_by_name(slide, tmp_path):
    path = slideflow(tmp_path)
    (tmp_path / "bags_config.json").write_text("{")
    with pytest.raises(FormatError, match="bags_config"):
        import_grid(path, slide, "slideflow")
    (tmp_path / "bags_config.json").unlink()
    with pytest.raises(FormatError, match="tile_px None"):
        import_grid(path, slide, "slideflow")
    slideflow(tmp_path)
    for content in (b"", b"no zip", path.read_bytes()[:-9]):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="not an index of slideflow"):
            import_grid(path, slide, "slideflow")
    np.savez(path.with_suffix(""), arr_0=np.zeros((3, 4)))
    with pytest.raises(FormatError, match=r"\(3, 4\)"):
        import_grid(path, slide, "slideflow")


def test_no_pickle_is_ever_loaded(slide, tmp_path):
    path = slideflow(tmp_path)
    np.savez(path.with_suffix(""), arr_0=np.array([[object()]]))
    with pytest.raises(FormatError, match="not an index of slideflow"):
        import_grid(path, slide, "slideflow")
