import json
from dataclasses import fields, replace

import cv2
import h5py
import numpy as np
import pytest

from tiling import (
    FormatError,
    GridConfig,
    TissueConfig,
    grid_fingerprint,
    load_grid,
    load_summary,
    load_thumbnail,
    open_slide,
    save_grid,
    segment_tissue,
    stored_fingerprint,
    tile_slide,
)

HOSTILE = 'ward/žluť 肺 "a" {} \\ \udcff'


@pytest.fixture(scope="module")
def tissue(phantom):
    with open_slide(phantom.path, id="ward/phantom") as slide:
        return segment_tissue(slide, TissueConfig(tissue_mpp=6))


@pytest.fixture(scope="module")
def grid(phantom, tissue):
    with open_slide(phantom.path, id="ward/phantom") as slide:
        config = GridConfig(tile_px=96, tile_mpp=0.7, overlap_px=8, min_tissue=0.4)
        return tile_slide(slide, tissue, config, TissueConfig(tissue_mpp=6))


@pytest.fixture
def saved(grid, tissue, tmp_path):
    path = tmp_path / "ward" / "phantom.h5"
    save_grid(grid, path, thumbnail=tissue.thumbnail)
    return path


def assert_same(one, two):
    for field in fields(one):
        mine, other = getattr(one, field.name), getattr(two, field.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == other.dtype
        else:
            assert mine == other
            assert type(mine) is type(other)


def test_a_grid_comes_back_as_it_was(grid, saved, phantom):
    loaded = load_grid(saved)
    assert len(grid) > 10
    assert_same(grid, loaded)
    assert loaded.fingerprint == grid.fingerprint == stored_fingerprint(saved)
    with open_slide(phantom.path) as slide:
        assert grid_fingerprint(slide, loaded.config, loaded.tissue_config) == loaded.fingerprint


def test_whole_numbers_from_the_user_keep_the_fingerprint(phantom, tissue, tmp_path):
    with open_slide(phantom.path, mpp=1) as slide:
        grid = tile_slide(slide, tissue, GridConfig(tile_px=64, tile_mpp=1, min_tissue=0))
        save_grid(grid, tmp_path / "a.h5")
        loaded = load_grid(tmp_path / "a.h5")
        assert loaded.fingerprint == grid.fingerprint
        assert loaded.fingerprint == grid_fingerprint(slide, grid.config, grid.tissue_config)


def test_the_file_holds_what_its_page_says(grid, saved):
    with h5py.File(saved) as file:
        assert file["coords"].dtype == np.int64
        assert file["coords"].shape == (len(grid), 2)
        assert file["tissue_fraction"].dtype == np.float32
        assert json.loads(file["tissue/polygons"][()])["type"] == "MultiPolygon"
        told = dict(file.attrs)
    assert told["format"] == "slidebag.grid"
    assert told["format_version"] == 1
    assert told["slide_id"] == "ward/phantom"
    assert told["slide_path"] == grid.slide_path
    assert told["slide_fingerprint"] == grid.slide_fingerprint
    assert json.loads(told["config"]) == {
        "grid": {
            "tile_px": 96,
            "tile_mpp": 0.7,
            "overlap_px": 8,
            "min_tissue": 0.4,
            "allow_upsampling": False,
            "exact_pixels": False,
            "max_tiles": 0,
            "tile_seed": 0,
        },
        "tissue": {"tissue_mpp": 6, "min_area_mm2": None, "min_hole_mm2": 0.02, "background": "auto"},
    }
    expected = {
        "mpp": 0.5,
        "mpp_source": "openslide.mpp-x",
        "tile_mpp": 0.7,
        "tile_px": 96,
        "tile_px_level0": 134,
        "overlap_px": 8,
        "level": 0,
        "read_px": 134,
        "width_level0": 1600,
        "height_level0": 1203,
    }
    assert {name: told[name] for name in expected} == expected
    assert {"fingerprint", "slidebag_version", "created"} <= set(told)


def test_tridents_readers_find_their_attributes(saved):
    with h5py.File(saved) as file:
        assert dict(file["coords"].attrs) == {
            "patch_size": 96,
            "patch_size_level0": 134,
            "level0_magnification": 20,
            "target_magnification": pytest.approx(14.29),
            "overlap": 8,
            "name": "ward/phantom",
            "level0_width": 1600,
            "level0_height": 1203,
        }


def test_the_thumbnail_is_a_small_jpeg_in_the_right_colours(grid, tmp_path):
    pixels = np.zeros((1500, 2300, 3), np.uint8)
    pixels[:, :1150] = (200, 40, 90)
    pixels[:, 1150:] = (30, 60, 220)
    save_grid(grid, tmp_path / "a.h5", thumbnail=pixels)
    with h5py.File(tmp_path / "a.h5") as file:
        data = file["thumbnail"][()]
    shown = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert shown.shape == (668, 1024, 3)
    assert np.abs(shown[300, 100].astype(int) - (200, 40, 90)).max() < 8
    assert np.abs(shown[300, 900].astype(int) - (30, 60, 220)).max() < 8


def test_a_grid_may_have_no_tile_and_no_thumbnail(grid, tmp_path):
    empty = replace(
        grid,
        coords=np.zeros((0, 2), np.int64),
        tissue_fraction=np.zeros(0, np.float32),
        tissue_polygons={"type": "MultiPolygon", "coordinates": []},
    )
    save_grid(empty, tmp_path / "a.h5")
    loaded = load_grid(tmp_path / "a.h5")
    assert len(loaded) == 0
    assert_same(empty, loaded)


def test_any_slide_id_is_kept(grid, tmp_path):
    save_grid(replace(grid, slide_id=HOSTILE), tmp_path / "a.h5")
    assert load_grid(tmp_path / "a.h5").slide_id == HOSTILE


def test_saving_again_replaces_the_whole_file(grid, saved):
    save_grid(replace(grid, coords=grid.coords[:3], tissue_fraction=grid.tissue_fraction[:3]), saved)
    assert len(load_grid(saved)) == 3
    assert list(saved.parent.iterdir()) == [saved]


def test_a_failed_save_leaves_nothing(grid, tmp_path):
    with pytest.raises(TypeError):
        save_grid(replace(grid, tissue_polygons={"not": {1, 2}}), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dataset", ["coords", "tissue_fraction", "tissue/polygons"])
def test_a_file_without_a_dataset_is_refused(saved, dataset):
    with h5py.File(saved, "a") as file:
        del file[dataset]
    with pytest.raises(FormatError, match=rf"phantom\.h5: has no dataset '{dataset}'"):
        load_grid(saved)


def test_lengths_that_differ_are_refused(grid, saved):
    with h5py.File(saved, "a") as file:
        del file["tissue_fraction"]
        file["tissue_fraction"] = np.zeros(2, np.float32)
    with pytest.raises(FormatError, match=rf"{len(grid)} coords but 2 tissue fractions"):
        load_grid(saved)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_cut_file_is_refused(saved, keep):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(FormatError, match=r"phantom\.h5"):
        load_grid(saved)


@pytest.mark.parametrize("attribute", ["config", "mpp", "slide_id"])
def test_a_file_without_an_attribute_is_refused(saved, attribute):
    with h5py.File(saved, "a") as file:
        del file.attrs[attribute]
    with pytest.raises(FormatError, match=rf"phantom\.h5.*{attribute}"):
        load_grid(saved)


@pytest.mark.parametrize("config", ["{", '{"grid": {"side": 1}, "tissue": {}}', "[]"])
def test_options_that_no_grid_has_are_damage(saved, config):
    with h5py.File(saved, "a") as file:
        file.attrs["config"] = config
    for load in (load_grid, load_summary):
        with pytest.raises(FormatError, match=r"is damaged.*run the step again"):
            load(saved)


@pytest.mark.parametrize(
    ("name", "loads"),
    [
        ("tissue/polygons", [load_grid]),
        ("coords", [load_grid, load_summary]),
        ("thumbnail", [load_thumbnail]),
    ],
)
def test_a_dataset_of_another_kind_is_damage(saved, name, loads):
    with h5py.File(saved, "a") as file:
        del file[name]
        file.create_group(name) if name == "coords" else file.create_dataset(name, data=b"{")
    for load in loads:
        with pytest.raises(FormatError, match=r"phantom\.h5"):
            load(saved)
