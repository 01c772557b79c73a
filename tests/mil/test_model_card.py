"""The model's folder for someone who has neither slides nor bags: what it was made from, and pictures."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from features import EncoderConfig
from mil import Cohort, ExtractConfig, Run, TrainConfig, extract, tile, train
from tiling import GridConfig, TissueConfig, load_grid


@pytest.fixture(scope="module")
def trained(phantom_cohort, tmp_path_factory):
    """A run whose model was trained with the slides there."""
    run = Run.create(tmp_path_factory.mktemp("card"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=112, max_tiles=50), TissueConfig())
    extract(run, EncoderConfig(), ExtractConfig())
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
