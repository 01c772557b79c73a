"""The cohort report of runs whose answer is known: what it says, leaves unsaid, and lets in."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from predicted_runs import two_classes, write_run

import mil
from mil import (
    Run,
    attrition_table,
    batch_effect_table,
    class_table,
    column_of,
    comparison_table,
    confusion_table,
    fold_table,
    group_names,
    group_table,
    headline_table,
    load_predicted,
    lost_slides,
    mistake_table,
    report,
    roc_curves,
    roc_figure,
)
from mil.evaluate import bag_figures
from mil.predictions import write_predictions
from mil.report.figures import to_svg
from tiling import ConfigError, FormatError

HOSTILE = "<script>alert(1)</script> \"'&{{ 7*7 }} $x^2$ #222322"


class Page(HTMLParser):
    """What a page holds: tags, addresses, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("href", "src", "xlink:href") and v]
        assert not [k for k, _ in attrs if k.startswith("on")]

    def handle_data(self, data):
        self.text += data


def words(page: Page) -> str:
    return " ".join(page.text.split())


def test_the_tables_are_those_of_evaluate(tmp_path):
    run = two_classes(tmp_path / "run", patients=[f"p{k // 2}" for k in range(60)])
    p = load_predicted(run)
    expected = bag_figures(run.read_table("predictions.csv"), ["normal", "tumour"])
    told = headline_table(p).set_index("figure")
    assert told.value["AUC"] == pytest.approx(expected["slide_auc"])
    assert told.value["accuracy"] == pytest.approx(expected["slide_accuracy"])
    assert told.value["balanced accuracy"] == pytest.approx(expected["slide_balanced_accuracy"])
    assert ((told.low < told.value) & (told.value < told.high)).all()
    calibration = mil.calibration_table(p).set_index("when")
    assert calibration.ece["after"] == pytest.approx(expected["slide_ece"])
    assert calibration.brier["after"] == pytest.approx(expected["slide_brier"])
    assert calibration.brier_low["after"] < calibration.brier["after"] < calibration.brier_high["after"]
    counts = confusion_table(p)
    assert counts.to_numpy().sum() == 60
    assert told.value["sensitivity"] == pytest.approx(counts.loc["tumour", "tumour"] / 30)
    assert told.value["specificity"] == pytest.approx(counts.loc["normal", "normal"] / 30)


def test_each_fold_and_all_pooled(tmp_path):
    told = fold_table(load_predicted(two_classes(tmp_path / "run"))).set_index("fold")
    assert told.index.tolist() == ["0", "1", "2", "pooled", "mean of folds", "deviation"]
    assert told.accuracy["mean of folds"] == pytest.approx(told.accuracy[["0", "1", "2"]].mean())
    assert (told.n["0"], told.n["pooled"]) == (20, 60)


def test_the_worst_mistake_is_the_surest_one(tmp_path):
    probability = [[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.4, 0.6]]
    run = write_run(tmp_path / "run", ["normal", "normal", "tumour", "normal"], probability)
    told = mistake_table(load_predicted(run))
    assert told.id.tolist() == ["slide-002", "slide-001", "slide-003"]
    assert told.given.tolist() == pytest.approx([0.05, 0.2, 0.4])
    assert told.label.tolist() == ["tumour", "normal", "normal"]


def test_a_site_that_the_model_follows_is_seen(tmp_path):
    n = 80
    truth, site = np.arange(n) % 2, np.arange(n) // 40
    p = 0.2 + 0.3 * truth + 0.3 * site + 0.001 * np.arange(n)
    run = write_run(tmp_path / "run", [("a", "b")[t] for t in truth], np.stack([1 - p, p], 1))
    table = tmp_path / "table.csv"
    named = pd.DataFrame(
        {"slide": [f"{k}.svs" for k in range(n)], "label": "", "site": np.array(["N", "S"])[site]}
    )
    named.to_csv(table, index=False)
    predicted = load_predicted(run)
    groups = group_names(column_of(run, predicted, "site", table).tolist())
    told = group_table(predicted, groups).set_index("group")
    assert told.n.to_dict() == {"N": 40, "S": 40}
    assert told["mean p(b)"]["S"] - told["mean p(b)"]["N"] > 0.3
    p_values = batch_effect_table(predicted, groups).p_value
    assert (p_values[:2] < 1e-6).all()
    assert p_values[2] == pytest.approx(1)
    assert not told.is_small.any()
    with pytest.raises(ConfigError, match="no table has a column 'site'"):
        column_of(run, predicted, "site")


def test_numbers_become_quarters_and_rare_groups_others():
    quarters = group_names([str(k) for k in range(40)])
    assert sorted(set(quarters), key=lambda g: float(g.split()[0])) == [
        "0 to 9.75", "9.75 to 19.5", "19.5 to 29.25", "29.25 to 39",
    ]  # fmt: skip
    many = group_names([*(f"site {k}" for k in range(30)), "site 0", "", ""])
    assert len(set(many)) == 20
    assert {"other", "not given", "site 0"} < set(many)


@pytest.mark.parametrize(
    "values", [[f"{20230101 + 13 * k}" for k in range(60)], [f"{0.2502 + 1e-6 * k:.6f}" for k in range(40)]]
)
def test_quarters_of_numbers_that_hardly_differ_stay_apart(values):
    names, counts = np.unique(group_names(values), return_counts=True)
    assert len(names) == 4
    assert counts.max() - counts.min() <= 1


def test_two_models_are_compared_on_the_same_slides(tmp_path):
    good = two_classes(tmp_path / "good", spread=0.1)
    poor = two_classes(tmp_path / "poor", spread=0.9, seed=1)
    told = comparison_table({"good": load_predicted(good), "poor": load_predicted(poor)}).iloc[0]
    assert told.n == 60
    assert told.difference == pytest.approx(told.auc - told.other_auc)
    assert told.p_value < 0.01
    assert told.low < told.difference < told.high
    written = report(good, others=[poor.root])
    assert "DeLong" in words(Page(written.page))
    swapped = write_run(tmp_path / "swapped", ["tumour", "normal"], [[0.1, 0.9], [0.9, 0.1]])
    with pytest.raises(ConfigError, match="other labels"):
        comparison_table({"a": load_predicted(good), "b": load_predicted(swapped)})


def test_three_classes_have_each_against_the_rest(tmp_path):
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    p = rng.dirichlet([1, 1, 1], 90) + np.eye(3)[truth] * 0.5
    run = write_run(tmp_path / "run", [("a", "b", "c")[t] for t in truth], p / p.sum(1, keepdims=True))
    written = report(run)
    told = class_table(load_predicted(run))
    assert told["class"].tolist() == ["a", "b", "c"]
    expected = bag_figures(run.read_table("predictions.csv"), ["a", "b", "c"])
    assert told.auc.tolist() == pytest.approx([expected[f"slide_auc({n})"] for n in "abc"])
    assert headline_table(load_predicted(run)).value[0] == pytest.approx(expected["slide_auc"])
    assert set(written.tables["roc_curve"]["class"]) == {"a", "b", "c"}
    assert_page_is_whole(written.page)


def test_classes_that_do_not_exclude_each_other(tmp_path):
    rng = np.random.default_rng(0)
    labels = ["n", "x", "y", "x;y"] * 15
    truth = np.array([[name in label.split(";") for name in ("n", "x", "y")] for label in labels])
    p = np.clip(truth * 0.5 + rng.random((60, 3)) * 0.5, 0, 1)
    called = [";".join(n for n, v in zip("xy", row[1:], strict=True) if v >= 0.5) or "n" for row in p]
    run = write_run(tmp_path / "run", labels, p, called=called)
    written = report(run)
    assert load_predicted(run).is_exclusive is False
    expected = bag_figures(run.read_table("predictions.csv"), ["n", "x", "y"])
    told = headline_table(load_predicted(run)).set_index("figure").value
    assert told["AUC"] == pytest.approx(expected["slide_auc"])
    assert told["balanced accuracy"] == pytest.approx(expected["slide_balanced_accuracy"])
    assert written.tables["confusion"].drop(columns="class").to_numpy().sum() == 180
    assert_page_is_whole(written.page)


def as_patients(run: Run) -> None:
    rows = run.read_table("predictions.csv")
    rows.insert(0, "patient_id", [f"patient {k}" for k in range(len(rows))])
    rows.insert(1, "slide_ids", rows.pop("slide_id"))
    run.write_table("predictions.csv", rows)


def test_a_bag_of_a_patient_is_counted_as_one(tmp_path):
    run = two_classes(tmp_path / "run")
    as_patients(run)
    written = report(run)
    p = load_predicted(run)
    assert (p.unit, len(p), p.patients[3]) == ("patient", 60, "patient 3")
    assert written.tables["attrition"].n.tolist()[0] == 60
    assert_page_is_whole(written.page)


def assert_page_is_whole(path: Path) -> None:
    """Nothing is fetched, nothing runs, nothing undefined is shown as a number."""
    page = Page(path)
    assert "script" not in page.tags
    assert not re.search(r"\b(nan|inf|None|NaN)\b", page.text)
    outside = [
        a
        for a in page.addresses
        if not a.startswith(("data:", "#", "tables/", "figures/", "../", "report.json"))
    ]
    assert outside == []
    assert not re.search(r"url\((?!#)", path.read_text())
    told = json.loads((path.parent / "report.json").read_text(), parse_constant=pytest.fail)
    assert told["format"] == "slidebag.report"
    for name in told["tables"]:
        assert (path.parent / "tables" / f"{name}.csv").is_file()


def test_slides_without_labels_have_predictions_and_no_figures_of_merit(tmp_path):
    probability = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]
    run = write_run(tmp_path / "run", ["", "", ""], probability, names=["a", "b"], folds=["", "", ""])
    written = report(run)
    assert "No predicted slide has a label" in words(Page(written.page))
    assert "headline" not in written.tables
    assert_page_is_whole(written.page)


@pytest.mark.parametrize("labels", [["b"], ["a", "b", ""], ["b"] * 20])
def test_few_slides_or_one_class_are_said_and_not_counted_as_numbers(tmp_path, labels):
    p = np.linspace(0.2, 0.8, len(labels))
    run = write_run(tmp_path / "run", labels, np.stack([1 - p, p], 1), names=["a", "b"])
    written = report(run, by=["n_tiles"])
    told = words(Page(written.page))
    assert "cannot tell" in told
    if set(labels) == {"b"}:
        assert "not defined" in told
        assert math.isnan(headline_table(load_predicted(run)).value[0])
        assert "of class b: its AUC, curves and tests are not defined" in told
    else:
        assert "of class b: only 1." in told
    assert_page_is_whole(written.page)


def test_a_run_that_predicted_nothing(tmp_path):
    run = write_run(tmp_path / "run", [], np.zeros((0, 2)), names=["a", "b"])
    assert_page_is_whole(report(run).page)
    write_predictions(run, [])  # as if every slide failed
    assert_page_is_whole(report(run).page)
    (run.root / "predictions.csv").unlink()
    with pytest.raises(FormatError, match=r"has no predictions\.csv"):
        report(run)


def test_what_was_lost_is_told_with_its_step(tmp_path):
    run = two_classes(tmp_path / "run", 8)
    slides = run.slides()
    slides.loc[0, ["status", "n_tiles", "message"]] = ["no tissue", "0", ""]
    slides.loc[1, ["status", "n_tiles", "message"]] = ["failed", "", "cut off"]
    run.write_table("slides.csv", slides)
    run.write_table("predictions.csv", run.read_table("predictions.csv").drop(index=[1]))
    failed = [
        ("slide-001", "tile", "cut off", "copy it again"),
        ("ghost", "cohort", "no file", "copy it there"),
    ]
    run.write_table("failures.csv", pd.DataFrame(failed, columns=["slide_id", "step", "error", "hint"]))
    for slide_id in slides["slide_id"].drop(index=1):
        run.grid_path(slide_id).parent.mkdir(exist_ok=True)
        run.grid_path(slide_id).touch()
    steps = attrition_table(run).set_index("step")
    assert steps.n.tolist() == [9, 8, 7, 6, 6, 6]
    assert steps.lost.tolist() == [0, 1, 1, 1, 0, 0]
    lost = lost_slides(run)
    assert lost.slide_id.tolist() == ["ghost", "slide-000", "slide-001"]
    assert lost.is_predicted.tolist() == [False, True, False]
    assert "copy it again" in words(Page(report(run).page))


def test_hostile_names_and_labels_are_text_alone(tmp_path):
    root, outside = tmp_path / "run", tmp_path / "secret"
    ids = [HOSTILE, "../../secret", "a/../../../secret", *(f"s{k}" for k in range(17))]
    labels = [HOSTILE, "b"] * 10
    p = np.linspace(0.9, 0.1, 20)
    run = write_run(
        root, labels, np.stack([1 - p, p], 1), ids=ids, called=["b", HOSTILE] * 10, patients=[HOSTILE] * 20
    )
    picture = cv2.imencode(".png", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    for folder in (outside, run.root / "heatmaps" / HOSTILE):
        folder.mkdir(parents=True)
        (folder / "overlay.png").write_bytes(picture)
    table = tmp_path / "table.csv"
    pd.DataFrame({"slide": ids, "label": "", HOSTILE: [HOSTILE, "x"] * 10}).to_csv(table, index=False)
    failed = [(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
    run.write_table("failures.csv", pd.DataFrame(failed, columns=["slide_id", "step", "error", "hint"]))
    run.note("train", {"train": {"learner": "../models/own"}, "encoder": HOSTILE})
    card = {
        "classes": [HOSTILE],
        "slide_thresholds": [math.nan],
        "tile_threshold": 0.5,
        "warnings": [HOSTILE],
    }
    (run.root / "models" / "own").mkdir(parents=True)
    (run.root / "models" / "own" / "card.json").write_text(json.dumps(card))
    written = report(run, by=[HOSTILE], table=table)
    assert_page_is_whole(written.page)
    page = Page(written.page)
    assert "{{ 7*7 }}" in page.text
    assert "alert(1)" in page.text
    assert page.tags.count("img") == 1  # the slide's own overlay, and none from outside
    assert not [a for a in page.addresses if "secret" in a]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "secret", "table.csv"]
    for path in (run.root / "report" / "figures").iterdir():
        assert "<script" not in path.read_text()


def test_a_figure_is_the_same_file_again_and_its_ids_its_own(tmp_path):
    p = load_predicted(two_classes(tmp_path / "run"))
    curves = roc_curves(p)
    first, again, other = (to_svg(roc_figure(curves), name) for name in ("roc", "roc", "other"))
    assert first == again
    assert not set(re.findall(r'"(p[0-9a-f]{10})"', first)) & set(re.findall(r'"(p[0-9a-f]{10})"', other))
