"""A packed store gives back what the files held."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from features import (
    FeatureStore,
    load_bag_configs,
    load_beside,
    load_features,
    pack_features,
    store_fingerprint,
)
from features.store import zarr_place
from tiling import ConfigError, FormatError, SlidebagError, load_grid

ARRAYS = ("features", "coords", "unreadable")


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "out" / "store.zarr")
    return f"memory://{tmp_path.name}/store.zarr"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_bags_grids_and_options_come_back_equal(make_bags, place, dtype):
    sources = make_bags(7, 300, 0, 1, dtype=dtype)
    assert pack_features(sources, place)
    store = FeatureStore(place)
    assert store.slide_ids == tuple(sources) == ("slide-0", "a/slide-1", "slide-2", "slide-3")
    for slide_id, (grid_path, bag_path) in sources.items():
        one, two = load_features(bag_path), store.bag(slide_id)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
            assert getattr(one, name).dtype == getattr(two, name).dtype
        assert (one.slide_id, one.encoder_fingerprint, one.fingerprint) == (
            two.slide_id, two.encoder_fingerprint, two.fingerprint,
        )  # fmt: skip
        assert store.configs(slide_id) == load_bag_configs(bag_path)
        first, second = load_grid(grid_path), store.grid(slide_id)
        assert first.fingerprint == second.fingerprint == store.grid_fingerprint(slide_id)
        assert first.tissue_polygons == second.tissue_polygons
        np.testing.assert_array_equal(first.tissue_fraction, second.tissue_fraction)
        assert repr(first) == repr(second)


def test_rows_of_other_datasets_come_along(make_bags, place):
    sources = make_bags(7, 3, views=(2, 5), tokens=(2, 2, 5))
    pack_features(sources, place)
    rows = FeatureStore(place).rows_of("views", "a/slide-1")
    assert rows.shape == (3, 2, 5)
    assert FeatureStore(place).rows_of("tokens", "slide-0").shape == (7, 2, 2, 5)
    with pytest.raises(FormatError, match="no array 'colours'"):
        FeatureStore(place).rows_of("colours", "slide-0")


@pytest.mark.parametrize("n_shards", [1, 6])
def test_views_are_those_of_the_slide_mapped_where_they_lie_in_one_piece(
    make_bags, place, monkeypatch, n_shards
):
    if n_shards > 1:
        monkeypatch.setattr("features.pack._CHUNK_BYTES", 40)
        monkeypatch.setattr("features.pack._CHUNKS_A_SHARD", 2)
    sources = make_bags(1, 7, 0, 4, 12, views=(2, 5))
    pack_features(sources, place)
    store, is_local = FeatureStore(place), "://" not in place
    if is_local:
        assert len(list(Path(place, "views", "c").glob("*/0/0"))) == n_shards
    for slide_id, (_, bag_path) in sources.items():
        views = store.views(slide_id)
        np.testing.assert_array_equal(views, load_beside(bag_path, "views"))
        if len(views) and n_shards == 1:
            assert views.flags.writeable != is_local
    plain = make_bags(3)
    pack_features(plain, place)
    assert FeatureStore(place).views("slide-0") is None


def test_nothing_is_done_where_nothing_has_changed(make_bags, place):
    sources = make_bags(4, 2)
    assert pack_features(sources, place)
    before = store_fingerprint(place)
    assert not pack_features(sources, place)
    assert pack_features({"slide-0": sources["slide-0"]}, place)
    assert store_fingerprint(place) != before
    assert FeatureStore(place).slide_ids == ("slide-0",)


def test_a_store_that_was_not_finished_is_none(make_bags, place):
    sources = make_bags(4, 2)

    def stop(slide_id):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_features(sources, place, advance=stop)
    assert store_fingerprint(place) is None
    with pytest.raises(FormatError):
        FeatureStore(place)
    assert pack_features(sources, place)


def test_an_older_store_stays_until_the_new_one_is_whole(make_bags, tmp_path):
    sources = make_bags(4, 2)
    pack_features(sources, tmp_path / "out.zarr")
    before = store_fingerprint(tmp_path / "out.zarr")
    sources["slide-9"] = (tmp_path / "none.h5", tmp_path / "none.h5")
    with pytest.raises(FormatError, match="no such file"):
        pack_features(sources, tmp_path / "out.zarr")
    assert store_fingerprint(tmp_path / "out.zarr") == before
    assert not list(tmp_path.glob(".*"))


def test_what_is_no_store_is_never_written_over(make_bags, tmp_path):
    sources = make_bags(4)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    with pytest.raises(FormatError, match="no packed store there"):
        FeatureStore(tmp_path / "photos")
    for place in (tmp_path / "photos", tmp_path / "photos" / "one.jpg", tmp_path):
        with pytest.raises(ConfigError, match="is there already and no packed store"):
            pack_features(sources, place)
    zarr.create_group(zarr_place(str(tmp_path / "theirs.zarr"), read_only=False))
    with pytest.raises(ConfigError, match="is there already and no packed store"):
        pack_features(sources, tmp_path / "theirs.zarr")


def test_bags_that_are_not_alike_are_refused(make_bags, tmp_path):
    sources = make_bags(4)
    other = {"slide-0": sources["slide-0"], "a/slide-1": make_bags(4, 3, dim=7)["a/slide-1"]}
    make_bags(4)
    with pytest.raises(SlidebagError, match=r"a/slide-1: features is \(7,\) float16, of the slides before"):
        pack_features(other, tmp_path / "out.zarr")
    with pytest.raises(FormatError, match="other tiles than its grid"):
        pack_features({"slide-0": (make_bags(4)["slide-0"][0], other["a/slide-1"][1])}, tmp_path / "out.zarr")


def test_zarr_alone_reads_it(make_bags, tmp_path):
    sources = make_bags(7, 300)
    pack_features(sources, tmp_path / "out.zarr")
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert group.attrs["format"] == "slidebag.store"
    low, high = group["offsets"][1:3]
    np.testing.assert_array_equal(
        group["features"][low:high], load_features(sources["a/slide-1"][1]).features
    )


def test_a_store_that_another_program_compressed_is_read_and_not_mapped(make_bags, tmp_path):
    sources = make_bags(7, 30)
    pack_features(sources, tmp_path / "out.zarr")
    group = zarr.open_group(tmp_path / "out.zarr", mode="a")
    rows = group["features"][:]
    group.create_array("features", data=rows, chunks=(8, 5), overwrite=True)
    store = FeatureStore(tmp_path / "out.zarr")
    np.testing.assert_array_equal(store.bag("a/slide-1").features, rows[7:])
    with pytest.raises(FormatError, match="cannot be mapped"):
        store.instances()


def test_a_store_that_is_cut_short_is_told(make_bags, tmp_path):
    pack_features(make_bags(7, 30), tmp_path / "out.zarr")
    shard = tmp_path / "out.zarr" / "features" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(FormatError, match="cut short"):
        FeatureStore(tmp_path / "out.zarr").bag("slide-0")


def test_a_copy_needs_no_files(make_bags, tmp_path):
    sources = make_bags(7, 30)
    expected = load_features(sources["slide-0"][1]).features
    pack_features(sources, tmp_path / "out.zarr")
    shutil.copytree(tmp_path / "out.zarr", tmp_path / "elsewhere.zarr")
    for folder in ("tiles", "features", "out.zarr"):
        shutil.rmtree(tmp_path / folder)
    np.testing.assert_array_equal(FeatureStore(tmp_path / "elsewhere.zarr").bag("slide-0").features, expected)
