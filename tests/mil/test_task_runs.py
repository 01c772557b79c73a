"""Tasks beyond one class a slide, from the table to predictions and figures, on bags whose truth is known."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features import EncoderConfig, load_features
from mil import (
    Bag,
    Classes,
    Cohort,
    CohortError,
    ExtractConfig,
    FitConfig,
    HeatmapConfig,
    Plan,
    Run,
    TrainConfig,
    evaluate,
    extract,
    heatmap,
    load_learner,
    load_scores,
    predict,
    run_all,
    tile,
    train,
)
from mil.bags import group_slides
from mil.predictions import Fitted, rows_by_slide
from tiling import ConfigError, FormatError, GridConfig, OverlayConfig, TissueConfig, load_grid

QUICK = {"epochs": "15"}
ENCODER = "stain-stats"


@pytest.fixture(scope="module")
def extracted(phantom_cohort, tmp_path_factory) -> Run:
    """A run of 8 slides, four with tumour, with features: copy it."""
    run = Run.create(tmp_path_factory.mktemp("tasks"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=112), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
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
    card = json.loads((run.model_folder("mix") / "card.json").read_text())
    of_both = sum(part != "test" and "tumour" in label for label, part in zip(labels, split, strict=True))
    assert (card["cohort"]["tumour"]["slides"], card["is_exclusive"]) == (of_both, False)
    assert set(rows.is_calibrated) == {"false"}  # of four slides
    assert 0 <= figures["set_coverage"] <= 1 <= figures["set_size"]
    heatmap(run, OverlayConfig(longest_px=300), HeatmapConfig(format=("png",)))
    assert not (run.root / "failures.csv").exists()


def of_patients(run: Run) -> list[str]:
    """Three patients a label, the first of which has two slides."""
    slides = run.slides()
    nth = slides.groupby("label").cumcount()
    patients = [f"{label} {max(0, n - 1)}" for label, n in zip(slides.label, nth, strict=True)]
    relabel(run, patient_id=patients)
    return patients


PATIENTS = TrainConfig(learner="mix", folds=3, bag="patient")


def test_all_slides_of_a_patient_are_one_bag_with_one_prediction_and_scores_each(run):
    patients = of_patients(run)
    train(run, ENCODER, PATIENTS, QUICK)
    rows = run.read_table("predictions.csv").set_index("patient_id")
    assert sorted(rows.index) == sorted(set(patients))
    assert rows.n_slides.astype(int).to_dict() == {p: patients.count(p) for p in patients}
    row = rows.loc["tumour 0"]
    learner = load_learner(run.model_folder("mix") / "folds" / row.fold)
    slides = [s for s in run.cohort().slides if s.patient_id == "tumour 0"]
    features = [load_features(run.features_path(ENCODER, s.slide_id)).features for s in slides]
    told = learner.predict(Bag("both", np.concatenate(features)))
    assert float(row["p(tumour)"]) == pytest.approx(float(told.probability[1]), abs=1e-6)
    scores = [load_scores(run.scores_path(s.slide_id)).probability for s in slides]
    assert [len(each) for each in scores] == [len(each) for each in features]
    assert np.array_equal(np.concatenate(scores), told.tile_probability)
    model = Fitted.load(run.model_folder("mix") / "folds" / row.fold)
    nearby = [load_scores(run.scores_path(s.slide_id)).novelty for s in slides]
    expected, of_patient = model.novelty(np.concatenate(features))
    assert np.allclose(np.concatenate(nearby), expected)
    assert float(row.novelty) == pytest.approx(of_patient, rel=1e-4)
    cohort = json.loads((run.model_folder("mix") / "card.json").read_text())["cohort"]
    assert {k: cohort["tumour"][k] for k in ("bags", "slides", "patients")} == {
        "bags": 3, "slides": 4, "patients": 3,
    }  # fmt: skip
    typical = run.read_table("models/mix/typical/typical.csv")
    for shown in typical.to_dict("records"):
        grid = load_grid(run.grid_path(shown["slide_id"]))
        assert grid.coords[int(shown["row"])].tolist() == [int(shown["x"]), int(shown["y"])]
    splits = run.read_table("models/mix/splits.csv")
    test = splits[splits.part == "test"].set_index("slide_id").fold
    assert {test[s.slide_id] for s in slides} == {row.fold}


def test_figures_heatmaps_and_predict_follow_the_patients(run, phantom_cohort, tmp_path):
    of_patients(run)
    train(run, ENCODER, PATIENTS, QUICK)
    figures = evaluate(run, phantom_cohort / "truth").figures
    assert (figures["patients"], "slide_auc" in figures) == (6, False)
    assert figures["patch_auc"] > 0.8
    slide_id = run.cohort().slides[0].slide_id
    heatmap(run, OverlayConfig(longest_px=300), HeatmapConfig(format=("png",)), only=(slide_id,))
    assert (run.heatmap_folder(slide_id) / "overlay.png").is_file()
    new = Run.create(tmp_path / "new")
    predict(run.model_folder("mix"), run.cohort(), new)
    assert sorted(new.read_table("predictions.csv").patient_id) == sorted({*of_patients(run)})
    assert len(list((new.root / "scores").glob("*.h5"))) == 8
    assert not (new.root / "failures.csv").exists()


def test_scores_of_an_earlier_model_are_of_no_patient(run, phantom_cohort):
    of_patients(run)
    train(run, ENCODER, TrainConfig(learner="mix", folds=3), QUICK)  # by slide: scores for each
    slides = run.cohort().slides
    gone = next(s for s in slides if sum(o.patient_id == s.patient_id for o in slides) == 2)
    run.features_path(ENCODER, gone.slide_id).unlink()
    train(run, ENCODER, PATIENTS, QUICK)
    assert run.scores_path(gone.slide_id).is_file()
    row = run.read_table("predictions.csv").set_index("patient_id").loc[gone.patient_id]
    assert (row.n_slides, gone.slide_id in row.slide_ids.split("|")) == ("1", False)
    predicted = rows_by_slide(run)
    assert predicted.keys() == {s.slide_id for s in slides} - {gone.slide_id}
    assert all(predicted[s.slide_id]["patient_id"] == s.patient_id for s in slides if s != gone)
    with pytest.raises(ConfigError, match="has no prediction"):
        heatmap(run, OverlayConfig(), HeatmapConfig(), only=(gone.slide_id,))
    n_tiles = sum(len(load_grid(run.grid_path(i))) for i in predicted)
    assert evaluate(run, phantom_cohort / "truth").figures["tiles"] == n_tiles
    run.write_table("predictions.csv", run.read_table("predictions.csv").drop(columns="slide_ids"))
    with pytest.raises(FormatError, match="which slides a patient's row is of"):
        rows_by_slide(run)


def test_predict_tells_labels_of_a_patient_that_exclude_each_other_before_any_work(run, tmp_path):
    of_patients(run)
    train(run, ENCODER, PATIENTS, QUICK)
    slides = [
        replace(s, label=name, patient_id="p1") for s, name in zip(run.cohort().slides, "ab", strict=False)
    ]
    new = Run.create(tmp_path / "new")
    with pytest.raises(CohortError, match=f"'p1' .* {slides[0].slide_id} is a and {slides[1].slide_id} is b"):
        predict(run.model_folder("mix"), Cohort(tuple(slides)), new)
    assert not list(new.root.iterdir())


def test_a_slide_without_a_label_goes_with_its_patient(run):
    patients = of_patients(run)
    second = [k for k, p in enumerate(patients) if p == "tumour 0"][1]
    labels = run.slides().label.tolist()
    labels[second] = ""
    relabel(run, label=labels)
    train(run, ENCODER, PATIENTS, QUICK)
    row = run.read_table("predictions.csv").set_index("patient_id").loc["tumour 0"]
    assert (row.label, row.n_slides, row.fold != "") == ("tumour", "2", True)


def test_labels_of_a_patient_that_exclude_each_other_are_refused_by_name(run):
    relabel(run, patient_id=["p1", "p1", *map(str, range(6))], label=["a", "b"] * 4)
    slides = run.cohort().slides
    with pytest.raises(CohortError, match=f"'p1' .* {slides[0].slide_id} is a and {slides[1].slide_id} is b"):
        train(run, ENCODER, TrainConfig(learner="mix", negative="a", bag="patient"))


def test_classes_of_a_patients_slides_are_put_together_where_they_may_be(run):
    classes = Classes(("normal", "a", "b"), has_negative=True, is_exclusive=False)
    relabel(run, patient_id=["p", "p", "p", "q", "q", "r", "r", "r"],
            label=["a", "b", "normal", "normal", "", "", "", ""])  # fmt: skip
    groups = group_slides(run.cohort().slides, "patient", classes)
    assert [(g.id, g.label, len(g.slides)) for g in groups] == [
        ("p", "a;b", 3),
        ("q", "normal", 2),
        ("r", "", 3),
    ]


def test_a_sweep_is_told_by_card_and_run_and_is_kept(run):
    pytest.importorskip("optuna")
    relabel(run, patient_id=run.slides().slide_id)
    config, how = TrainConfig(learner="mix", folds=3), FitConfig(sweep=3)
    settings = {"epochs": "5", "weight_decay": "0.001"}
    train(run, ENCODER, config, settings, how=how)
    folder = run.model_folder("mix")
    chosen = json.loads((folder / "sweep.json").read_text())["chosen"]
    assert set(chosen) == {"learning_rate"}
    card = json.loads((folder / "card.json").read_text())
    assert card["training_options"]["sweep"] == 3
    assert card["training_options"]["swept"] == {"learning_rate": str(chosen["learning_rate"])}
    options = card["learner_options"]
    assert (options["learning_rate"], options["weight_decay"]) == (chosen["learning_rate"], 0.001)
    assert f"`learning_rate` {chosen['learning_rate']}" in (folder / "README.md").read_text()
    noted = json.loads((run.root / "run.json").read_text())["steps"]["train"]
    assert noted["train"]["sweep"] == 3
    assert train(run, ENCODER, config, settings, how=how).is_kept
    by_hand = settings | {"learning_rate": "0.0123"}
    assert not train(run, ENCODER, config, by_hand).is_kept
    assert "sweep" not in json.loads((folder / "card.json").read_text())["training_options"]


def upper_half(grid, name: str) -> tuple[dict, float]:
    """A region of a class, as QuPath writes it, over the tiles above a line, and the line's y."""
    (x0, y0), (x1, y1) = grid.coords.min(0), grid.coords.max(0) + 100
    middle = float(y0 + y1) / 2
    ring = [[x0, y0], [x1, y0], [x1, middle], [x0, middle], [x0, y0]]
    shape = {"type": "Polygon", "coordinates": [np.array(ring, float).tolist()]}
    told = {"classification": {"name": name}}
    return {"type": "Feature", "geometry": shape, "properties": told}, middle


def test_run_takes_annotations_and_tells_before_any_work_that_there_are_none(run, phantom_cohort, tmp_path):
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    plan = Plan(
        grid=GridConfig(tile_px=112),
        encoder=EncoderConfig(encoder=ENCODER),
        train=TrainConfig(folds=3),
        settings={"members": "1", "epochs": "2", "witness_epochs": "2", "steps_per_epoch": "5"},
        overlay=OverlayConfig(longest_px=300),
    )
    fresh, folder = Run.create(tmp_path / "fresh"), tmp_path / "drawn"
    with pytest.raises(ConfigError, match="no such folder"):
        run_all(cohort, fresh, plan, annotations=folder)
    folder.mkdir()
    with pytest.raises(ConfigError, match="annotations for none of the 8 slides"):
        run_all(cohort, fresh, plan, annotations=folder)
    assert not list(fresh.root.iterdir())
    one = next(s for s in run.cohort().slides if s.label == "tumour")
    region, _ = upper_half(load_grid(run.grid_path(one.slide_id)), "normal")
    (folder / f"{one.slide_id}.geojson").write_text(json.dumps(region))
    run_all(cohort, run, plan, annotations=folder)
    card = json.loads((run.model_folder("slidebag") / "card.json").read_text())
    assert card["annotated_bags"] == 1


def test_annotations_reach_the_model_and_are_part_of_what_it_was_made_from(run, tmp_path):
    one = next(s for s in run.cohort().slides if s.label == "tumour")
    grid = load_grid(run.grid_path(one.slide_id))
    region, middle = upper_half(grid, "normal")
    folder = tmp_path / "drawn"
    (folder / one.slide_id).parent.mkdir(parents=True)
    config = TrainConfig(folds=3)
    quick = {"members": "1", "epochs": "3", "witness_epochs": "3", "steps_per_epoch": "5"}
    relabel(run, patient_id=run.slides().slide_id)
    with pytest.raises(ConfigError, match="annotations for none of the 8 slides"):
        train(run, ENCODER, config, quick, annotations=folder)
    (folder / f"{one.slide_id}.geojson").write_text(json.dumps(region))
    train(run, ENCODER, config, quick)
    plain = load_learner(run.model_folder("slidebag"))
    assert not train(run, ENCODER, config, quick, annotations=folder).is_kept
    taught = load_learner(run.model_folder("slidebag"))
    assert train(run, ENCODER, config, quick, annotations=folder).is_kept
    bag = Bag("one", load_features(run.features_path(ENCODER, one.slide_id)).features)
    inside = grid.coords[:, 1] < middle - 112
    assert inside.sum() > 5
    before, after = (m.predict(bag).tile_probability[inside, 1].mean() for m in (plain, taught))
    assert after < before
