"""What `evaluate` measures, and what it says of labels and masks that it cannot."""

import numpy as np
import pandas as pd
import pytest

from mil import Run, evaluate
from mil.evaluate import changed_labels
from mil.truth_masks import load_truth_mask
from tiling import FormatError


def predicted(root, labels) -> Run:
    """A run of as many slides, all of which were called normal."""
    run, p = Run.create(root), np.linspace(0.1, 0.4, len(labels))
    told = {"p(normal)": 1 - p, "p(tumour)": p, "uncalibrated(normal)": 1 - p, "uncalibrated(tumour)": p}
    rows = {"slide_id": [f"s{k}" for k in range(len(labels))], "label": labels, **told}
    same = {"prediction": "normal", "set": "normal", "threshold": "0.5"}
    run.write_table("predictions.csv", pd.DataFrame(rows).assign(**same))
    return run


def test_labels_that_the_model_does_not_know_are_told(tmp_path, capsys):
    run = predicted(tmp_path, ["normal", "tumour", "normal", "tumor", "Normal", ""])
    assert evaluate(run).figures["slides"] == 3
    told = "2 slides have labels that the model does not know (tumor, Normal; it knows normal, tumour)"
    assert told in capsys.readouterr().err


def test_nothing_is_said_where_all_labels_are_known(tmp_path, capsys):
    evaluate(predicted(tmp_path, ["normal", "tumour", ""]))
    assert not capsys.readouterr().err


def test_no_label_and_no_known_label_are_told_apart(tmp_path):
    with pytest.raises(FormatError, match="no predicted slide has a label; `slidebag predict"):
        evaluate(predicted(tmp_path, ["", ""]))
    with pytest.raises(FormatError, match=r"that the model knows \(benign; it knows normal, tumour\)"):
        evaluate(predicted(tmp_path, ["benign"]))


def test_labels_that_were_corrected_since_are_told(tmp_path, capsys):
    labels = ["normal", "tumour", "normal", "tumour"]
    run = predicted(tmp_path, labels)
    ids, empty = [f"s{k}" for k in range(4)], dict.fromkeys(("mpp", "split", "n_tiles", "status"), "")
    told = {"slide_id": ids, "path": "", "patient_id": ids, "label": labels, **empty, "message": ""}
    run.write_table("slides.csv", pd.DataFrame(told))
    before = evaluate(run).figures
    assert not capsys.readouterr().err
    run.update_slides({"s1": {"label": "normal"}, "s2": {"label": ""}})
    told = "2 of 4 slides have another label in slides.csv than when predicted, the first is s1: train or"
    assert evaluate(run).figures == before
    assert f"evaluate: {told}" in capsys.readouterr().err
    rows = run.read_table("predictions.csv")
    assert changed_labels(run, rows).startswith(told)
    run.write_table("slides.csv", run.slides().iloc[:1])  # of the others nothing is known
    assert changed_labels(run, rows) == ""


@pytest.mark.parametrize(
    ("label", "slides", "threshold", "is_changed"),
    [
        ("tumour", ["tumour", ""], "0.5", False),
        ("tumour", ["", ""], "0.5", True),
        ("tumour", ["tumour", "normal"], "0.5", True),
        ("necrosis;tumour", ["tumour;necrosis", "normal"], "0.5;0.5", False),
        ("normal", ["normal", ""], "0.5;0.5", False),
        ("tumour", ["tumour", "necrosis"], "0.5;0.5", True),
    ],
)
def test_a_patient_is_labelled_by_all_slides(tmp_path, label, slides, threshold, is_changed):
    run, empty = Run.create(tmp_path), dict.fromkeys(("mpp", "split", "n_tiles", "status", "message"), "")
    told = {"slide_id": ["a", "b"], "path": "", "patient_id": "p", "label": slides, **empty}
    run.write_table("slides.csv", pd.DataFrame(told))
    row = {"patient_id": "p", "slide_ids": "a|b", "label": label, "p(normal)": "0.5", "threshold": threshold}
    found = changed_labels(run, pd.DataFrame([row]))
    assert ("1 of 1 patients have another label" in found) == is_changed


def test_a_truth_mask_that_is_not_there_is_told_once(tmp_path, capfd):
    with pytest.raises(FormatError, match="there is no such truth mask"):
        load_truth_mask(tmp_path / "nowhere" / "s0.png")
    assert not capfd.readouterr().err  # which OpenCV writes to as well
