"""Calibration and sets of classes that do not exclude each other, against truth known by construction."""

import numpy as np
import pytest
from scipy.special import expit

from mil import Classes, Prediction
from mil.calibration import Calibration, ClassSets, HeldOut, calibrate
from mil.calibration.lines import margins_of, to_probability
from mil.metrics import brier, calibration_error

MANY = Classes(("normal", "a", "b"), has_negative=True, is_exclusive=False)


def findings(rng, n_bags):
    """True probabilities of each class by itself, what an overconfident learner says, and labels (B, C)."""
    true = rng.normal(0, 1.5, (n_bags, 2))
    there = rng.random((n_bags, 2)) < expit(true)
    none = np.log(np.prod(expit(-true), axis=1, keepdims=True))
    true = np.concatenate([none - np.log1p(-np.exp(none)), true], axis=1)
    return expit(true), expit(2.5 * true + [1, 2, -2]), np.column_stack([~there.any(axis=1), there])


def many_held_out(rng, n_bags):
    _, said, labels = findings(rng, n_bags)
    tiles = [to_probability(rng.normal(-2, 1, (30, 2))) for _ in range(n_bags)]
    predictions = [
        Prediction(f"{i}", p.astype(np.float32), t, np.zeros(30, np.int16))
        for i, (p, t) in enumerate(zip(said, tiles, strict=True))
    ]
    return HeldOut.of(predictions, labels, np.zeros((n_bags, 200), np.float32))


def test_classes_that_do_not_exclude_each_other_are_calibrated_each_by_itself(tmp_path):
    rng = np.random.default_rng(1)
    frozen = calibrate(many_held_out(rng, 400), MANY, 0.9)
    true, said, labels = findings(rng, 4000)
    found = frozen.calibration.slide(said)
    assert np.abs(found - true).mean() < 0.05 < np.abs(said - true).mean()
    assert calibration_error(found, labels) < calibration_error(said, labels) / 2
    assert brier(found, labels) < brier(said, labels)
    assert all((np.diff(found[np.argsort(said[:, c]), c]) >= 0).all() for c in range(3))
    np.testing.assert_allclose(frozen.calibration.slides.undo(found), said, atol=1e-3)
    assert frozen.calibration.tiles is None
    assert frozen.calibration.held_out == tuple(many_held_out(np.random.default_rng(1), 400).labels.sum(0))
    frozen.calibration.save(tmp_path)
    assert Calibration.load(tmp_path) == frozen.calibration


def test_thresholds_of_such_classes_are_on_the_calibrated_scale():
    rng = np.random.default_rng(2)
    frozen = calibrate(many_held_out(rng, 400), MANY, 0.9)
    _, said, labels = findings(rng, 2000)
    called = frozen.calibration.slide(said)[:, 1:] >= frozen.slide_thresholds
    recalls = [[called[labels[:, c + 1] == there, c].mean() for there in (False, True)] for c in range(2)]
    assert np.abs(np.diff(recalls)).min() > 0.35  # few false ones, many true ones
    assert np.all(np.abs(np.array(frozen.slide_thresholds) - 0.5) < 0.25)


def test_sets_of_such_classes_hold_each_class_at_the_level():
    rng = np.random.default_rng(3)
    coverage = []
    for _ in range(60):
        held_out = many_held_out(rng, 60)
        sets = ClassSets.of(held_out.margins, held_out.labels, 0.8)
        _, said, labels = findings(rng, 60)
        found = np.array([[c in sets.of_slide(p) for c in range(3)] for p in said.astype(np.float32)])
        coverage.append([found[labels[:, c], c].mean() for c in range(3)])
    assert np.nanmean(coverage, axis=0) == pytest.approx(np.full(3, 0.82), abs=0.04)


def test_too_few_slides_of_such_classes_calibrate_nothing_and_leave_no_class_out():
    frozen = calibrate(many_held_out(np.random.default_rng(4), 5), MANY, 0.9)
    assert (frozen.calibration.slides, frozen.calibration.tiles) == (None, None)
    assert frozen.calibration.sets.of_slide(np.zeros(3, np.float32)) == (0, 1, 2)
    assert len(frozen.slide_thresholds) == 2


def test_margins_of_such_classes_come_back_and_stay_finite():
    probability = np.array([[0.0, 0.25, 1.0], [1e-30, 0.5, 1 - 2**-24]], np.float32)
    margins = margins_of(probability, is_exclusive=False)
    assert np.isfinite(margins).all()
    np.testing.assert_allclose(to_probability(margins, is_exclusive=False), probability, atol=1e-7)
