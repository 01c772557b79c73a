"""Calibration and class sets from bag labels alone, against truth that is known by construction."""

import json

import numpy as np
import pytest
from scipy.special import expit

from mil import Classes, Prediction
from mil.calibration import Calibration, ClassSets, HeldOut, Lines, calibrate
from mil.calibration.lines import margins_of, to_probability
from mil.calibration.slides import slide_lines
from mil.calibration.tiles import tile_lines
from mil.metrics import brier, calibration_error
from tiling import FormatError

BINARY = Classes(("normal", "tumour"), has_negative=True)
THREE = Classes(("normal", "a", "b"), has_negative=True)
SUBTYPES = Classes(("a", "b"), has_negative=False)


def tiles(rng, n_bags, rate, n_classes=2, n_tiles=120):
    """Margins of an overconfident, shifted learner: (n, K) a bag; bag labels; the tiles' classes."""
    margins, labels, truth = [], [], []
    for i in range(n_bags):
        label = i % n_classes
        found = np.where(rng.random(n_tiles) < (rate if label else 0), label, 0)
        true = rng.normal(-3, 1.4, (n_tiles, n_classes - 1))
        true[found > 0, found[found > 0] - 1] += 5
        margins.append((2.5 * true + 4 + 0.5 * rng.normal()).astype(np.float32))
        labels.append(label)
        truth.append(found)
    return margins, np.array(labels), np.concatenate(truth)


def errors(margins, truth, lines=None):
    probability = to_probability(np.concatenate(margins))
    probability = probability if lines is None else lines(probability)
    return calibration_error(probability, truth), brier(probability, truth)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("n_bags", [6, 40])
def test_tiles_are_calibrated_from_bag_labels(rate, n_bags):
    rng = np.random.default_rng(3)
    margins, labels, _ = tiles(rng, n_bags, rate)
    lines = tile_lines(margins, labels)
    others, _, truth = tiles(rng, 40, rate)
    (raw_ece, raw_brier), (ece, score) = errors(others, truth), errors(others, truth, lines)
    assert ece < raw_ece / 3
    assert score < raw_brier / 2
    assert ece < (0.05 if n_bags > 10 else 0.08)


def test_tiles_of_three_classes_are_calibrated_each_against_the_negative_one():
    rng = np.random.default_rng(3)
    margins, labels, _ = tiles(rng, 30, 0.3, n_classes=3)
    lines = tile_lines(margins, labels)
    others, _, truth = tiles(rng, 30, 0.3, n_classes=3)
    (raw_ece, raw_brier), (ece, score) = errors(others, truth), errors(others, truth, lines)
    assert ece < raw_ece / 2
    assert score < raw_brier / 2


def test_no_order_changes_and_lines_can_be_undone():
    rng = np.random.default_rng(0)
    margins, labels, _ = tiles(rng, 12, 0.2)
    lines = tile_lines(margins, labels)
    probability = to_probability(np.sort(np.concatenate(margins), axis=0))
    after = lines(probability)
    assert (np.diff(margins_of(after)[:, 0]) >= 0).all()
    assert len(np.unique(margins_of(after))) >= 0.99 * len(np.unique(margins_of(probability)))
    np.testing.assert_allclose(lines.undo(after), probability, atol=1e-5)
    np.testing.assert_allclose(after.sum(1), 1, atol=1e-5)


def test_a_learner_that_sees_nothing_gets_what_the_labels_allow():
    rng = np.random.default_rng(0)
    margins = [rng.normal(size=(100, 1)).astype(np.float32) for _ in range(30)]
    found = tile_lines(margins, np.arange(30) % 2)(to_probability(np.concatenate(margins)))
    assert found[:, 1].max() < 0.5  # nothing says that any tile is positive


def slides(rng, n_bags, n_classes=2, slope=3.0, offset=2.0):
    labels = np.arange(n_bags) % n_classes
    true = rng.normal(size=(n_bags, n_classes - 1))
    true[labels > 0, labels[labels > 0] - 1] += 2
    true -= 1
    return slope * true + offset, labels


@pytest.mark.parametrize("n_classes", [2, 3])
def test_slides_are_calibrated(n_classes):
    rng = np.random.default_rng(0)
    lines = slide_lines(*slides(rng, 40, n_classes))
    margins, labels = slides(rng, 1500, n_classes)
    raw = to_probability(margins)
    assert calibration_error(lines(raw), labels) < 0.5 * calibration_error(raw, labels)
    assert brier(lines(raw), labels) < brier(raw, labels)


def test_few_slides_move_the_learners_own_scale_little():
    lines = slide_lines(np.array([[-2.0], [2.0]]), np.array([0, 1]))
    assert 1 <= lines.slopes[0] < 2  # without the prior it would grow without end
    assert abs(lines.offsets[0]) < 1e-3


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n_held_out", [6, 30, 200])
def test_sets_hold_the_label_at_their_level(n_classes, n_held_out):
    rng = np.random.default_rng(0)
    coverage = []
    for _ in range(150):
        sets = ClassSets.of(*slides(rng, n_held_out, n_classes), 0.8)
        margins, labels = slides(rng, 30, n_classes)
        found = [sets.of_slide(p) for p in to_probability(margins)]
        coverage.append(np.mean([label in each for label, each in zip(labels, found, strict=True)]))
    error = np.std(coverage) / np.sqrt(len(coverage))
    assert np.mean(coverage) >= 0.8 - 3 * error
    if n_held_out == 200:
        assert np.mean(coverage) < 0.84  # and no more than needed


def test_sets_hold_the_level_within_each_class():
    rng = np.random.default_rng(0)
    missed = np.zeros(2)
    for _ in range(150):
        margins, labels = slides(rng, 120)
        keep = (labels == 0) | (rng.random(120) < 0.3)  # positives are rare
        sets = ClassSets.of(margins[keep], labels[keep], 0.8)
        assert sets.by_class
        margins, labels = slides(rng, 40)
        for p, label in zip(to_probability(margins), labels, strict=True):
            missed[label] += label not in sets.of_slide(p)
    assert (missed / (150 * 20) < 0.22).all()


def test_too_few_slides_leave_no_class_out():
    margins, labels = slides(np.random.default_rng(0), 8)
    assert ClassSets.of(margins, labels, 0.9).of_slide(np.array([1.0, 0.0])) == (0, 1)


def held_out(classes, n_bags, rate=0.3):
    rng = np.random.default_rng(0)
    n_tile_classes = len(classes.tile_names)
    margins, labels, _ = tiles(rng, n_bags, rate, n_tile_classes)
    labels = labels % len(classes.names)
    probability = slides(rng, n_bags, len(classes.names))[0]
    predictions = [
        Prediction(f"{i}", to_probability(p[None])[0], to_probability(m), np.zeros(len(m), np.int16))
        for i, (p, m) in enumerate(zip(probability, margins, strict=True))
    ]
    return HeldOut.of(predictions, labels.tolist(), np.zeros((n_bags, 200), np.float32))


def test_held_out_bags_come_back_from_the_disk_and_empty_ones_are_left_out(tmp_path):
    nothing = Prediction("bare", np.array([1, 0], np.float32), np.zeros((0, 2), np.float32), np.zeros(0))
    some = held_out(BINARY, 4)
    HeldOut.pooled([some, HeldOut.of([nothing], [1], np.zeros((1, 200), np.float32))]).save(tmp_path)
    again = HeldOut.load(tmp_path)
    assert np.array_equal(again.labels, some.labels)
    assert np.array_equal(again.margins, some.margins)
    assert all(np.array_equal(a, b) for a, b in zip(again.tile_margins, some.tile_margins, strict=True))
    with pytest.raises(FormatError, match="train again"):
        HeldOut.load(tmp_path / "nowhere")


def test_a_huge_bag_is_kept_in_part_with_its_tail():
    margins = np.random.default_rng(0).normal(size=(50_000, 1))
    bag = Prediction("x", np.array([0.5, 0.5], np.float32), to_probability(margins), np.zeros(50_000))
    kept = HeldOut.of([bag], [0], np.zeros((1, 200), np.float32)).tile_margins[0]
    assert len(kept) == 4096
    np.testing.assert_allclose(np.quantile(kept, [0.01, 0.5, 0.99, 1]),
                               np.quantile(margins, [0.01, 0.5, 0.99, 1]), atol=0.01)  # fmt: skip


@pytest.mark.parametrize(("classes", "n_bags"), [(BINARY, 12), (THREE, 18), (SUBTYPES, 12), (BINARY, 4)])
def test_what_is_calibrated_depends_on_classes_and_bags(classes, n_bags, tmp_path):
    frozen = calibrate(held_out(classes, n_bags), classes, 0.9)
    calibration = frozen.calibration
    assert (calibration.slides is not None) == (n_bags > 4)
    assert (calibration.tiles is not None) == (n_bags > 4 and classes.has_negative)
    assert len(frozen.slide_thresholds) == (classes is BINARY)
    calibration.save(tmp_path)
    assert Calibration.load(tmp_path) == calibration


def test_thresholds_are_on_the_calibrated_scale():
    told = held_out(BINARY, 40)
    frozen = calibrate(told, BINARY, 0.9)
    negative = np.concatenate([m for m, y in zip(told.tile_margins, told.labels, strict=True) if y == 0])
    reached = frozen.calibration.tile(to_probability(negative))[:, 1] >= frozen.tile_threshold
    assert reached.mean() <= 0.01
    called = frozen.calibration.slide(to_probability(told.margins))[:, 1] >= frozen.slide_thresholds[0]
    assert (called == (told.labels == 1)).mean() > 0.7


def test_damaged_and_newer_calibrations_are_refused(tmp_path):
    calibrate(held_out(BINARY, 12), BINARY, 0.9).calibration.save(tmp_path)
    path = tmp_path / "calibration.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"format_version": 99}))
    with pytest.raises(FormatError, match="version 99"):
        Calibration.load(tmp_path)
    path.write_text(json.dumps({"format_version": 1}))
    with pytest.raises(FormatError, match="damaged"):
        Calibration.load(tmp_path)


def test_margins_reach_as_far_as_float32():
    margins = np.array([[-80.0], [-20.0], [0.0], [20.0], [80.0]])
    np.testing.assert_allclose(margins_of(to_probability(margins)), margins, rtol=1e-5, atol=1e-6)
    assert Lines((0.5,), (1.0,))(to_probability(margins))[:, 1] == pytest.approx(expit(margins[:, 0] / 2 + 1))
