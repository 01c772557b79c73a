"""The model's folder for someone who has neither slides nor bags: what it was made from, and pictures."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from features import EncoderConfig, load_features
from mil import Bag, Cohort, ExtractConfig, Run, TrainConfig, extract, load_learner, load_scores, tile, train
from mil.model.novelty import max_logit
from tiling import GridConfig, TissueConfig, load_grid


def extracted(phantom_cohort, folder):
    run = Run.create(folder)
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=112, max_tiles=50), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    return run


@pytest.fixture(scope="module")
def trained(phantom_cohort, tmp_path_factory):
    """A run whose model was trained with the slides there."""
    run = extracted(phantom_cohort, tmp_path_factory.mktemp("card"))
    train(run, "stain-stats", TrainConfig(learner="mix", folds=3), {"epochs": "15"})
    return run


def test_the_card_tells_cohort_encoder_resolution_and_figures(trained):
    folder = trained.model_folder("mix")
    card = json.loads((folder / "card.json").read_text())
    slides = trained.slides()
    for name in ("normal", "tumour"):
        own = slides[slides["label"] == name]
        assert card["cohort"][name] == {
            "bags": len(own),
            "slides": len(own),
            "patients": own["patient_id"].nunique(),
            "tiles": own["n_tiles"].astype(int).sum(),
        }
    assert card["encoder"]["licence"] == "Apache-2.0"
    assert card["preparation"]["grid"]["tile_px"] == 112
    assert card["learner_options"]["epochs"] == 15
    assert card["figures_on_unseen_slides"]["slides"] == 8
    text = (folder / "README.md").read_text()
    for told in ("no\nmedical device", "stain-stats", "| tumour | 4 |", "slide_auc"):
        assert told in text


def test_typical_tiles_are_pictures_of_the_training_tiles_that_they_name(trained):
    folder = trained.model_folder("mix")
    table = pd.read_csv(folder / "typical" / "typical.csv")
    labels = trained.slides().set_index("slide_id")["label"]
    assert set(table["group"]) == {"normal", "tumour"}
    for row in table.itertuples():
        assert labels[row.slide_id] == row.group
        assert load_grid(trained.grid_path(row.slide_id)).coords[row.row].tolist() == [row.x, row.y]
        assert cv2.imread(str(folder / "typical" / row.picture)).shape == (224, 224, 3)
        assert f"typical/{row.picture}" in (folder / "README.md").read_text()
    assert not table.duplicated(["group", "slide_id"]).any()


def test_typical_tiles_of_tumour_lie_in_the_tumour(trained, phantom_cohort):
    table = pd.read_csv(trained.model_folder("mix") / "typical" / "typical.csv")
    hits = []
    for row in table[table["group"] == "tumour"].itertuples():
        mask = cv2.imread(str(phantom_cohort / "truth" / f"{row.slide_id}.png"), cv2.IMREAD_GRAYSCALE)
        scale = np.array(mask.shape[::-1]) / load_grid(trained.grid_path(row.slide_id)).size_level0_px
        x, y = ((np.array([row.x, row.y]) + 56) * scale).astype(int)
        hits.append(mask[y, x] >= 128)
    assert np.mean(hits) > 0.5


def test_slides_that_are_gone_leave_a_message_and_an_unchanged_model_keeps_its_card(trained, tmp_path):
    folder = trained.model_folder("mix")
    before = (folder / "card.json").stat().st_mtime_ns
    config = TrainConfig(learner="mix", folds=3)
    train(trained, "stain-stats", config, {"epochs": "15"})
    assert (folder / "card.json").stat().st_mtime_ns == before
    rows = trained.slides()
    trained.update_slides(
        {i: {"path": str(tmp_path / Path(p).name)} for i, p in rows[["slide_id", "path"]].values}
    )
    (folder / "card.json").unlink()
    train(trained, "stain-stats", config, {"epochs": "15"})
    table = pd.read_csv(folder / "typical" / "typical.csv")
    assert table["picture"].isna().all()
    assert table["message"].str.len().min() > 10
    assert "could not be read" in (folder / "README.md").read_text()


QUICK = {
    "members": "2", "witnesses": "linear", "witness_epochs": "3", "epochs": "4", "steps_per_epoch": "5",
    "instances_per_step": "64", "queue": "64", "prototypes": "2",
}  # fmt: skip


@pytest.fixture(scope="module")
def with_prototypes(phantom_cohort, tmp_path_factory):
    """A run with a model that has two prototypes a class."""
    run = extracted(phantom_cohort, tmp_path_factory.mktemp("prototypes"))
    train(run, "stain-stats", TrainConfig(folds=3), QUICK)
    return run


def told_of_all(run):
    learner = load_learner(run.model_folder("slidebag"))
    features = {
        i: load_features(run.features_path("stain-stats", i)).features for i in run.slides()["slide_id"]
    }
    return {i: learner.predict(Bag(i, each)) for i, each in features.items()}


def test_the_first_picture_of_a_prototype_is_its_medoid(with_prototypes):
    told = told_of_all(with_prototypes)
    folder = with_prototypes.model_folder("slidebag") / "typical"
    table = pd.read_csv(folder / "typical.csv")
    labels = with_prototypes.slides().set_index("slide_id")["label"]
    assert 2 <= table["group"].nunique() <= 4
    for group, rows in table.groupby("group"):
        name, _, p = group.partition(" prototype ")
        number = int(p)
        assert name == ("normal", "tumour")[number // 2]
        assert (labels[rows["slide_id"]] == name).all()
        shown = [told[row.slide_id].prototype_distance[row.row] for row in rows.itertuples()]
        assert all(told[row.slide_id].prototype[row.row] == number for row in rows.itertuples())
        assert shown == sorted(shown)
        of_class = [each for slide_id, each in told.items() if labels[slide_id] == name]
        nearest = min(
            each.prototype_distance[each.prototype == number].min(initial=np.inf) for each in of_class
        )
        assert shown[0] == pytest.approx(nearest)
        assert all((folder / row.picture).is_file() for row in rows.itertuples())


def test_how_often_each_prototype_occurs_in_each_class(with_prototypes):
    told = told_of_all(with_prototypes)
    folder = with_prototypes.model_folder("slidebag")
    table = pd.read_csv(folder / "typical" / "prototypes.csv")
    labels = with_prototypes.slides().set_index("slide_id")["label"]
    assert table.groupby("class")["share"].sum().to_numpy() == pytest.approx(1, abs=1e-4)
    for row in table.itertuples():
        shares = [(told[i].prototype == row.prototype).mean() for i in labels[labels == row[3]].index]
        assert row.share == pytest.approx(np.mean(shares), abs=1e-5)
        assert row.bags == np.count_nonzero(shares)
    text = (folder / "README.md").read_text()
    assert "| prototype | normal | tumour |" in text
    assert text.count("| tumour prototype ") == 2


def test_maximum_logit_and_prototype_distance_are_stored(with_prototypes):
    rows = with_prototypes.read_table("predictions.csv").set_index("slide_id")
    for slide_id, row in rows.iterrows():
        scores = load_scores(with_prototypes.scores_path(slide_id))
        learner = load_learner(with_prototypes.model_folder("slidebag") / "folds" / row["fold"])
        bag = Bag(slide_id, load_features(with_prototypes.features_path("stain-stats", slide_id)).features)
        told = learner.predict(bag)
        np.testing.assert_allclose(scores.max_logit, max_logit(told.tile_probability), rtol=1e-5)
        np.testing.assert_allclose(scores.prototype_distance, told.prototype_distance, atol=1e-6)
        assert float(row["max_logit"]) == pytest.approx(scores.max_logit.mean(), rel=1e-4)
        assert float(row["prototype_distance"]) == pytest.approx(scores.prototype_distance.mean(), rel=1e-4)


def test_a_learner_without_prototypes_tells_no_distance(trained):
    rows = trained.read_table("predictions.csv")
    assert (rows["prototype_distance"] == "").all()
    assert (rows["max_logit"] != "").all()
    assert not (trained.model_folder("mix") / "typical" / "prototypes.csv").exists()
    assert load_scores(trained.scores_path(rows["slide_id"][0])).prototype_distance is None
