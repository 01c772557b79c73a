"""The report of many classes, whose figures and captions have to stay readable and true."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from predicted_runs import write_run

from mil import Run, confusion_table, load_predicted, lost_slides, report, roc_curves, roc_figure
from mil.report.figures import confusion_figure, to_svg


def run_of(root: Path, names: list[str], n: int = 120) -> Run:
    """A run of predictions of classes that exclude each other, each labelled and called."""
    rng = np.random.default_rng(0)
    truth = np.arange(n) % len(names)
    p = rng.dirichlet(np.ones(len(names)), n)
    p[np.arange(n), truth] += 0.4
    p /= p.sum(axis=1, keepdims=True)
    return write_run(root, [names[c] for c in truth], p, names=names)


@pytest.mark.parametrize("n_classes", [3, 8, 30])
def test_legends_leave_the_curves_in_sight(tmp_path, n_classes):
    names = [f"subtype number {c:02d} of all" for c in range(n_classes)]
    figure = roc_figure(roc_curves(load_predicted(run_of(tmp_path / "run", names))))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    within = axes.get_window_extent()
    assert min(within.width, within.height) > 0.6 * figure.dpi * figure.get_figwidth()
    inside = axes.get_legend()
    assert (inside is not None) == (n_classes < 7)
    if inside is None:
        (below,) = figure.legends
        assert below.get_window_extent().y1 <= within.y0
        assert len(below.get_texts()) == n_classes


def test_counts_of_many_classes_are_not_small_in_a_huge_figure(tmp_path):
    names = [f"subtype {c:02d}" for c in range(30)]
    counts = confusion_table(load_predicted(run_of(tmp_path / "run", names)))
    assert confusion_figure(counts).get_figwidth() < 16  # inches, of which the page shows about 9


@pytest.mark.parametrize(("n_classes", "has_bands"), [(3, True), (4, False)])
def test_captions_tell_of_bands_only_where_they_are_drawn(tmp_path, n_classes, has_bands):
    page = report(run_of(tmp_path / "run", [f"c{c}" for c in range(n_classes)])).page
    text = " ".join(page.read_text(encoding="utf-8").split())
    for told in ("the band holds the sensitivity", "the band is of resampled", "bars are 95 % intervals"):
        assert (told in text) == has_bands
    assert "on the left" not in text  # where it is depends on the window


def test_a_class_may_be_called_label(tmp_path):
    written = report(run_of(tmp_path / "run", ["label", "other"]))
    counts = pd.read_csv(written.page.parent / "tables" / "confusion.csv")
    assert counts.columns.tolist() == ["labelled", "label", "other"]


def test_of_many_slides_that_failed_each_is_listed_once(tmp_path):
    run, n = Run.create(tmp_path / "run"), 20_000
    ids = [f"slide-{k:05d}" for k in range(n)]
    told = {"slide_id": ids, "path": "/nowhere.svs", "patient_id": ids, "label": "", "mpp": "", "split": "",
            "n_tiles": "", "status": "failed", "message": "cut off"}  # fmt: skip
    run.write_table("slides.csv", pd.DataFrame(told))
    run.write_table("predictions.csv", pd.DataFrame(columns=["slide_id", "label", "prediction"]))
    failed = {"slide_id": ids[: n // 2], "step": "tile", "error": "cut off", "hint": "copy it again"}
    run.write_table("failures.csv", pd.DataFrame(failed))
    lost = lost_slides(run)
    assert len(lost) == n
    assert (lost["step"] == "tile").sum() == n // 2


def test_classes_in_any_script_are_drawn_without_a_warning(tmp_path):
    names = ["正常", "腫瘍", "壊死"]
    figure = roc_figure(roc_curves(load_predicted(run_of(tmp_path / "run", names))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = to_svg(figure, "roc")
    assert all(name in svg for name in names)
