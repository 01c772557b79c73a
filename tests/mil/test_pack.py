"""`pack`, and learning from what it leaves."""

import json
import shutil

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from features import EncoderConfig, FeatureStore, load_beside, load_features
from mil import Cohort, ExtractConfig, Run, TrainConfig, extract, load_scores, pack, tile, train
from mil.bag_files import BagFiles, find_bags
from mil.bags import group_slides, load_bags
from mil.classes import Classes
from mil.cli import app
from tiling import ConfigError, FormatError, GridConfig, TissueConfig, load_grid

CONFIG = TrainConfig(learner="mean", folds=3)
TWO = Classes(("normal", "tumour"), has_negative=True)
STAIN_STATS = ("--encoder", "stain-stats")


@pytest.fixture(scope="module")
def extracted(phantom_cohort, tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("run"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=112), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    return run


@pytest.fixture
def run(extracted, tmp_path):
    return Run(shutil.copytree(extracted.root, tmp_path / "run"))


def test_the_run_has_its_store_beside_its_bags(run):
    done = pack(run, "stain-stats")
    assert not done.is_kept
    assert pack(run, "stain-stats").is_kept
    store = FeatureStore(run.root / "features" / "stain-stats.zarr")
    assert store.fingerprint == done.store.fingerprint
    assert store.slide_ids == tuple(s.slide_id for s in run.cohort().slides)
    first = store.slide_ids[0]
    one, two = load_features(run.features_path("stain-stats", first)), store.bag(first)
    np.testing.assert_array_equal(one.features, two.features)
    np.testing.assert_array_equal(store.grid(first).coords, load_grid(run.grid_path(first)).coords)


@pytest.mark.parametrize("where", ["own", "elsewhere"])
def test_training_from_a_store_alone_is_training_from_the_files(run, tmp_path, where):
    train(run, "stain-stats", CONFIG)
    other = Run.create(tmp_path / "other")
    shutil.copy(run.root / "slides.csv", other.root)
    place = other.store_path("stain-stats") if where == "own" else tmp_path / "copied.zarr"
    pack(run, "stain-stats", place)
    done = train(other, "stain-stats", CONFIG, store=None if where == "own" else place)
    assert not done.is_kept
    assert run.read_table("predictions.csv").equals(other.read_table("predictions.csv"))
    for slide in run.cohort().slides:
        one, two = (load_scores(r.scores_path(slide.slide_id)) for r in (run, other))
        np.testing.assert_array_equal(one.probability, two.probability)
        assert one.fingerprint == two.fingerprint
    recipes = [(r.model_folder("mean") / "recipe.json").read_text() for r in (run, other)]
    assert recipes[0] == recipes[1]


@pytest.mark.parametrize("where", ["files", "store"])
def test_features_are_read_when_they_are_looked_at(run, where):
    place = None if where == "files" else pack(run, "stain-stats").store.address
    source, slides = find_bags(run, "stain-stats", place), run.cohort().slides
    for loaded in load_bags(source, group_slides(slides, "slide", TWO)):
        assert not loaded.bag.features.flags.owndata
        path = run.features_path("stain-stats", loaded.bag.id)
        np.testing.assert_array_equal(loaded.bag.features, load_features(path).features)


@pytest.fixture(scope="module")
def with_views(extracted, tmp_path_factory):
    run = Run(shutil.copytree(extracted.root, tmp_path_factory.mktemp("views") / "run"))
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig(views=2))
    return run


@pytest.mark.parametrize("where", ["files", "local", "memory"])
def test_training_is_given_the_views_that_extraction_kept(with_views, tmp_path, where):
    address = {"files": None, "local": tmp_path / "views.zarr", "memory": f"memory://{tmp_path.name}.zarr"}
    if address[where] is not None:
        pack(with_views, "stain-stats", address[where])
    source, slides = find_bags(with_views, "stain-stats", address[where]), with_views.cohort().slides
    for loaded in load_bags(source, group_slides(slides, "slide", TWO)):
        views = load_beside(with_views.features_path("stain-stats", loaded.bag.id), "views")
        assert views.shape == (len(loaded.bag), 2, loaded.bag.features.shape[1])
        np.testing.assert_array_equal(loaded.bag.views, views)
        assert loaded.bag.views.flags.writeable == (where == "memory")  # else mapped, not read


def test_views_change_what_is_learned_and_the_card_tells_of_them(with_views, run):
    plain, told = train(run, "stain-stats", CONFIG), train(with_views, "stain-stats", CONFIG)
    assert not run.read_table("predictions.csv").equals(with_views.read_table("predictions.csv"))
    cards = [json.loads((done.folder / "card.json").read_text()) for done in (plain, told)]
    n_slides = len(run.cohort().slides)
    assert [card["bags_with_views"] for card in cards] == [0, n_slides]
    assert f"augmented views of those of {n_slides} bags" in (told.folder / "README.md").read_text()


def test_a_bag_that_vanishes_or_is_cut_short_is_named(run):
    slides = run.cohort().slides
    groups = group_slides(slides, "slide", TWO)
    path = run.features_path("stain-stats", slides[3].slide_id)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=path.name):
        load_bags(BagFiles(run, "stain-stats"), groups)
    path.unlink()
    with pytest.raises(FormatError, match=f"{slides[3].slide_id}: has no features"):
        load_bags(BagFiles(run, "stain-stats"), groups)


def test_files_go_before_the_run_s_own_store(run):
    pack(run, "stain-stats")
    assert isinstance(find_bags(run, "stain-stats"), BagFiles)
    shutil.rmtree(run.features_folder("stain-stats"))
    assert isinstance(find_bags(run, "stain-stats"), FeatureStore)
    with pytest.raises(FormatError, match="has no features of 'other'"):
        find_bags(run, "other").bag("slide")


@pytest.mark.parametrize("changed", ["grid", "bag"])
def test_a_stale_store_is_refused(run, changed):
    place = pack(run, "stain-stats").store.address
    slide_id = run.cohort().slides[2].slide_id
    path = run.grid_path(slide_id) if changed == "grid" else run.features_path("stain-stats", slide_id)
    with h5py.File(path, "a") as file:
        file.attrs["fingerprint"] = "0" * 12
    with pytest.raises(FormatError, match=f"{slide_id}: .* has changed since"):
        train(run, "stain-stats", CONFIG, store=place)
    assert not pack(run, "stain-stats").is_kept
    find_bags(run, "stain-stats", place)


def test_a_store_of_another_encoder_is_refused(run):
    place = pack(run, "stain-stats").store.address
    with pytest.raises(ConfigError, match="holds features of 'stain-stats', not of 'mean-colour'"):
        train(run, "mean-colour", CONFIG, store=place)


def test_a_run_without_features_has_nothing_to_pack(phantom_cohort, tmp_path):
    run = Run.create(tmp_path / "run")
    run.begin(Cohort.from_folder(phantom_cohort / "slides"))
    with pytest.raises(FormatError, match="no slide has features of 'stain-stats'"):
        pack(run, "stain-stats")


def test_the_commands(run):
    call = CliRunner().invoke
    address = f"memory://{run.root.name}/store.zarr"
    done = call(app, ["pack", str(run.root), address, *STAIN_STATS])
    assert done.exit_code == 0, done.output
    assert "8 bags" in done.output
    assert "nothing has changed" in call(app, ["pack", str(run.root), address, *STAIN_STATS]).output
    shutil.rmtree(run.features_folder("stain-stats"))
    options = ["--learner", "mean", "--folds", "3", "--store", address, *STAIN_STATS]
    done = call(app, ["train", str(run.root), *options])
    assert done.exit_code == 0, done.output
