"""What the report says of its own limits, and what it does with runs that are old, odd or incomplete."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from predicted_runs import two_classes
from typer.testing import CliRunner

import mil.pipeline
from mil import (
    Cohort,
    Run,
    attrition_table,
    column_of,
    froc_figure,
    group_names,
    load_predicted,
    load_truth,
    report,
    roc_curves,
    roc_figure,
)
from mil.cli.app import app
from mil.cohort import Fold
from mil.evaluate import Evaluation
from mil.machine import computed_by
from mil.pipeline import Finished, Plan, run_all
from mil.predictions import write_predictions
from mil.report.contents import Contents, add_groups, add_others, add_truth, gather
from mil.report.facts import run_facts
from mil.report.figures import to_svg
from mil.report.froc import SlideDetections, froc_curve, froc_table
from mil.slide_table import CohortError
from mil.training import Training
from tiling import ConfigError, FormatError


def text_of(page: Path) -> str:
    return " ".join(page.read_text(encoding="utf-8").split())


def changed(run: Run, name: str, **columns) -> Run:
    run.write_table(name, run.read_table(name).assign(**columns))
    return run


def compared(run: Run, *others: Path) -> Contents:
    contents = gather(run)
    add_others(contents, run, others)
    return contents


def limits(run: Run, *others: Path) -> str:
    return " ".join(compared(run, *others).limits)


def test_a_finished_model_is_told_also_of_those_compared(tmp_path):
    run, other = two_classes(tmp_path / "run"), two_classes(tmp_path / "other", spread=0.9)
    assert "finished model" not in limits(run, other.root)
    assert "thresholds were frozen before" in text_of(report(run).page)
    changed(other, "predictions.csv", fold="")
    assert "Compared with model (other), a finished model" in limits(run, other.root)
    assert "These predictions are of a finished model" in limits(other)
    assert "thresholds were frozen before" not in text_of(report(other).page)
    changed(run, "predictions.csv", fold=["", *["0"] * 59])
    assert "1 of 60 predictions are of a finished model" in limits(run)


def test_runs_of_one_folder_name_are_named_by_their_paths(tmp_path):
    run, other = two_classes(tmp_path / "a" / "run"), two_classes(tmp_path / "b" / "run")
    told = compared(run, other.root).tables["compared"].iloc[0]
    assert (told.model, told.other) == ("model (a/run)", "model (b/run)")
    (tmp_path / "link").symlink_to(run.root)
    with pytest.raises(ConfigError, match="compared with itself"):
        compared(run, tmp_path / "link")


def test_slides_held_for_training_by_the_table_are_not_lost(tmp_path):
    run = two_classes(tmp_path / "run", 8)
    changed(run, "slides.csv", split=["train"] * 4 + ["val"] * 2 + ["test"] * 2)
    run.write_table("predictions.csv", run.read_table("predictions.csv").iloc[6:])
    for slide_id in run.slides()["slide_id"]:
        run.grid_path(slide_id).parent.mkdir(exist_ok=True)
        run.grid_path(slide_id).touch()
    told = attrition_table(run).set_index("step")
    assert told.n["held for training and validation, by the table's split"] == 6
    assert told.n["predicted"] == 2
    assert told.lost.sum() == 0
    failed = [("slide-000", "train", "cut off", "extract again")]
    run.write_table("failures.csv", pd.DataFrame(failed, columns=["slide_id", "step", "error", "hint"]))
    told = attrition_table(run).set_index("step")
    assert told.n["held for training and validation, by the table's split"] == 5
    assert told.lost["predicted"] == 1


def test_predictions_of_slides_that_the_run_does_not_name_are_told(tmp_path):
    run = two_classes(tmp_path / "run")
    run.write_table("slides.csv", run.slides().iloc[1:])
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions" / "slide-000.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    told = gather(run)
    add_groups(told, run, ["mpp"])
    add_truth(told, load_truth(run, annotations=tmp_path / "regions"))
    assert "not in slides.csv: 1, the first is slide-000" in " ".join(told.limits)
    assert "slide-000" in told.tables["without_truth"].slide_id.tolist()


def test_labels_that_were_corrected_since_are_told(tmp_path):
    run = two_classes(tmp_path / "run")
    assert "another label" not in limits(run)
    run.update_slides({"slide-004": {"label": "tumour"}})
    assert "1 of 60 slides have another label in slides.csv than when predicted, the first is slide-004" in (
        limits(run)
    )


def test_a_report_of_earlier_predictions_is_gone_and_its_folder_is_replaced_whole(tmp_path):
    run = two_classes(tmp_path / "run")
    written = report(run)
    stale = written.page.parent / "tables" / "by_9.csv"
    stale.touch()
    report(run)
    assert not stale.exists()
    assert {p.name for p in stale.parents[1].iterdir()} == {"index.html", "report.json", "tables", "figures"}
    assert not list(run.root.glob(".report*"))
    rows = run.read_table("predictions.csv").to_dict("records")
    write_predictions(run, [{str(k): v for k, v in row.items()} for row in rows])
    assert not written.page.exists()
    report(run)
    assert written.page.exists()


def test_a_failing_report_hides_nothing_of_what_was_learned(tmp_path, monkeypatch):
    training, figures = Training(tmp_path, False, 1.0, ()), Evaluation({"slides": 3.0})
    steps = {"train": training, "evaluate": figures, "tile": None, "extract": None, "heatmap": None}
    for name, outcome in steps.items():
        monkeypatch.setattr(mil.pipeline, name, lambda *_, outcome=outcome, **__: outcome)
    for method in ("labelled", "classes"):
        monkeypatch.setattr(Cohort, method, lambda self, *_: self)
    monkeypatch.setattr(Cohort, "folds", lambda *_: [Fold("0", (), (), (0,))])
    run = Run.create(tmp_path / "demo" / "run")  # without predictions
    done = run_all(Cohort(()), run, Plan())
    assert (done.report, done.training) == (None, training)
    assert "has no predictions.csv" in done.report_error
    empty = Finished((), training, figures, None, done.report_error)
    monkeypatch.setattr("mil.cli.whole_verbs.run_demo", lambda _: empty)
    said = CliRunner().invoke(app, ["demo", str(tmp_path / "demo")])
    assert said.exit_code == 1
    assert "fitted in 1.0 s" in said.output
    assert "no report: " in said.output


def test_a_card_that_is_not_found_is_told(tmp_path):
    run, model = two_classes(tmp_path / "run"), tmp_path / "model"
    run.note("predict", {"model": str(model)})
    assert f"card was not found: there is no {model / 'card.json'}" in limits(run)
    model.mkdir()
    (model / "card.json").write_text(json.dumps({"learner": "mix"}))
    assert "card was not found" not in limits(run)


def test_folds_without_an_area_are_told_and_so_are_uncalibrated_ones(tmp_path):
    folds = ["0" if k % 2 else "1" for k in range(60)]
    folds[:6] = ["2"] * 6
    run = two_classes(tmp_path / "run", folds=folds)
    assert "The AUC of 2 of 3 folds is not defined" in limits(run)
    changed(run, "predictions.csv", is_calibrated=["false" if f == "2" else "true" for f in folds])
    assert "Probabilities of fold 2 are not calibrated" in limits(run)
    changed(run, "predictions.csv", is_calibrated="false")
    assert "Probabilities are not calibrated" in limits(run)
    changed(run, "predictions.csv", is_calibrated="true", fold="0")
    assert "not calibrated" not in limits(run)
    assert "not defined" not in limits(run)


def test_a_column_is_found_by_the_name_that_the_table_gives_it(tmp_path):
    run = two_classes(tmp_path / "run", 8)
    table = tmp_path / "table.csv"
    rows = {"filename": run.slides()["slide_id"], "label": "", "case_id": [f"c{k}" for k in range(8)]}
    pd.DataFrame(rows).to_csv(table, index=False)
    p = load_predicted(run)
    for name in ("case_id", "patient"):
        assert column_of(run, p, name, table).tolist() == rows["case_id"]


def test_a_class_whose_name_begins_with_an_underscore_is_in_the_legend(tmp_path):
    run = two_classes(tmp_path / "run", names=("_n", "_t"))
    figure = roc_figure(roc_curves(load_predicted(run)))
    (legend,) = [axes.get_legend() for axes in figure.axes]
    assert [text.get_text().strip("\u200b") for text in legend.get_texts()] == ["_t"]
    assert "_t" in to_svg(figure, "roc")


def test_a_step_that_counts_its_slides_in_one_number_is_told_too(tmp_path):
    run = two_classes(tmp_path / "run", 8)
    run.note("pack", {"seconds": 1.0, "slides": 8})
    run.note("tile", {"seconds": 1.0, "slides": {"done": 7, "failed": 1}})
    assert run_facts(run).steps["slides"].tolist() == ["8", "7 done, 1 failed"]


@pytest.mark.parametrize("damage", ['{"steps": {', "[]", "{}", '{"steps": 3}'])
def test_a_damaged_run_json_is_named_with_what_to_do(tmp_path, damage):
    run = two_classes(tmp_path / "run")
    (run.root / "run.json").write_text(damage)
    for read in (report, lambda run: run.note("tile", {})):
        with pytest.raises(FormatError, match=r"run\.json: is damaged.*remove it"):
            read(run)
    assert (run.root / "run.json").read_text() == damage
    (run.root / "run.json").unlink()
    assert report(run).page.is_file()


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (",", ";", "no column slide_id, label, .*its columns are slide_id;label;"),
        ("slide_id", "name", "no column slide_id; its columns are name, label, "),
        ("slide_id", "patient_id", "no column slide_ids, which says which slides a patient's row is of"),
        (",fold", ",part", "no column fold; its columns are slide_id, "),
        ("p(", "P(", r"no column p\(<class>\), uncalibrated\(<class>\)"),
        (",uncalibrated(tumour)", ",", r"no column uncalibrated\(tumour\)"),
        (
            "slide-001,tumour,",
            "slide-001,tumour,half ",
            r"'half .*' in the column p\(normal\), wanted a number",
        ),
    ],
)
def test_edited_predictions_are_told_with_what_is_missing(tmp_path, before, after, found):
    run = two_classes(tmp_path / "run", 8)
    path = run.root / "predictions.csv"
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(FormatError, match=f"predictions.csv has {found}.*train or predict again") as told:
        report(run)
    assert "save it with commas" in told.value.hint


def test_a_notebook_is_no_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/ipykernel_launcher.py", "-f", "/home/someone/kernel.json"])
    assert computed_by()["command"] == "in Python"


def test_a_froc_curve_ends_where_its_axis_does():
    """Further to the right lesions are still found; the line neither jumps to them nor comes back."""
    slides = [SlideDetections("a", np.array([0.9, 0.1]), np.linspace(0.2, 0.8, 30))]
    axes = froc_figure(froc_curve(slides), froc_table(slides)).axes[0]
    x, y = axes.lines[0].get_data()
    assert (np.diff(x) >= 0).all()
    assert (list(x), list(y)) == ([0, 8], [0.5, 0.5])


@pytest.mark.parametrize("called", ["Tumour", "", "normal;other"])
def test_what_is_called_by_no_classs_name_is_refused_and_no_mistake(tmp_path, called):
    run = two_classes(tmp_path / "run", 8)
    changed(run, "predictions.csv", prediction=[called, *["normal"] * 7])
    with pytest.raises(FormatError, match=f"calls slide-000 '{called}', wanted of normal, tumour"):
        report(run)


def test_a_table_of_other_slides_or_of_one_twice_is_refused(tmp_path):
    run, table = two_classes(tmp_path / "run", 8), tmp_path / "table.csv"
    ids, p = run.slides()["slide_id"].tolist(), load_predicted(run)
    pd.DataFrame({"slide": [f"other-{i}" for i in ids], "label": "", "site": "A"}).to_csv(table, index=False)
    with pytest.raises(CohortError, match="none of its 8 slides is one of the run's 8"):
        column_of(run, p, "site", table)
    pd.DataFrame({"slide": [*ids, ids[0]], "label": "", "site": [*["A"] * 8, "B"]}).to_csv(table, index=False)
    with pytest.raises(CohortError, match="'slide-000' stands there twice"):
        column_of(run, p, "site", table)
    rows = pd.DataFrame({"slide": [*ids[:3], "not run", "not run"], "label": "", "site": "A"})
    rows.to_csv(table, index=False)
    assert column_of(run, p, "site", table).tolist() == ["A"] * 3 + [""] * 5


def test_numbers_without_an_end_are_no_quarters():
    values = [*map(str, range(8)), "inf"]
    assert group_names(values).tolist() == values
