"""What `evaluate` measures, and what it says of labels and masks that it cannot."""

import numpy as np
import pandas as pd
import pytest

from mil import Run, evaluate
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


def test_a_truth_mask_that_is_not_there_is_told_once(tmp_path, capfd):
    with pytest.raises(FormatError, match="there is no such truth mask"):
        load_truth_mask(tmp_path / "nowhere" / "s0.png")
    assert not capfd.readouterr().err  # which OpenCV writes to as well
