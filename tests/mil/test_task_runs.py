"""Tasks beyond one class a slide, from the table to predictions and figures, on bags whose truth is known."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from features import EncoderConfig
from mil import (
    Cohort,
    ExtractConfig,
    HeatmapConfig,
    Run,
    TrainConfig,
    evaluate,
    extract,
    heatmap,
    load_scores,
    tile,
    train,
)
from tiling import GridConfig, OverlayConfig, TissueConfig

QUICK = {"epochs": "15"}
ENCODER = "stain-stats"


@pytest.fixture(scope="module")
def extracted(phantom_cohort, tmp_path_factory) -> Run:
    """A run of 8 slides, four with tumour, with features: copy it."""
    run = Run.create(tmp_path_factory.mktemp("tasks"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=112), TissueConfig())
    extract(run, EncoderConfig(), ExtractConfig())
    return run


@pytest.fixture
def run(extracted, tmp_path) -> Run:
    """A copy to write into."""
    return Run(Path(shutil.copytree(extracted.root, tmp_path / "run")))


def relabel(run: Run, **columns) -> None:
    """Change columns of slides.csv, in the order of its slides."""
    run.write_table("slides.csv", run.slides().assign(**columns))


def test_slides_of_several_classes_have_a_probability_a_threshold_and_an_area_for_each(run):
    kinds = {"tumour": ["tumour;stroma", "tumour"], "normal": ["normal", "stroma"]}
    slides = run.slides()
    nth = slides.groupby("label").cumcount()
    labels = [kinds[label][n % 2] for label, n in zip(slides.label, nth, strict=True)]
    unseen = ["test" if label in ("tumour;stroma", "normal") else "val" for label in labels]
    split = ["train" if n < 2 else part for n, part in zip(nth, unseen, strict=True)]
    relabel(run, label=labels, split=split, patient_id=slides.slide_id)
    train(run, ENCODER, TrainConfig(learner="mix"), QUICK)
    rows = run.read_table("predictions.csv")
    assert {"p(normal)", "p(stroma)", "p(tumour)"} < set(rows.columns)
    assert (rows.threshold.str.count(";") == 1).all()  # none for "normal", which is none of the others
    for row in rows.to_dict("records"):
        limits = dict(zip(("stroma", "tumour"), map(float, row["threshold"].split(";")), strict=True))
        found = [name for name, limit in limits.items() if float(row[f"p({name})"]) >= limit]
        assert row["prediction"] == (";".join(found) or "normal")
    figures = evaluate(run).figures
    each = [figures[f"slide_auc({name})"] for name in ("normal", "stroma", "tumour")]
    assert figures["slide_auc"] == pytest.approx(np.mean(each))
    assert load_scores(run.scores_path(rows.slide_id[0])).classes == ("normal", "stroma", "tumour")
    heatmap(run, OverlayConfig(longest_px=300), HeatmapConfig(geojson=False))
    assert not (run.root / "failures.csv").exists()
