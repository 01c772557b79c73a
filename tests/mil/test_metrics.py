"""Figures of merit against cases whose answer is known, and thresholds from validation bags."""

import numpy as np
import pytest

from mil.metrics import (
    brier,
    calibration_error,
    choose_threshold,
    choose_tile_threshold,
    class_aucs,
    dice,
    equal_bins,
    instance_ap,
    instance_auc,
    slide_auc,
)


def two_columns(positive):
    return np.stack([1 - np.asarray(positive), positive], axis=1)


def test_slide_auc_of_two_classes():
    labels = np.array([0, 0, 1, 1])
    assert slide_auc(two_columns([0.1, 0.2, 0.8, 0.9]), labels) == 1
    assert slide_auc(two_columns([0.9, 0.8, 0.2, 0.1]), labels) == 0
    assert slide_auc(two_columns([0.1, 0.6, 0.5, 0.9]), labels) == pytest.approx(0.75)


def test_slide_auc_of_three_classes_is_the_mean_of_each_against_the_rest():
    labels = np.array([0, 1, 2])
    assert slide_auc(np.eye(3), labels) == 1
    rolled = np.array([[0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    each = [0.5, 0.5, 1.0]
    assert slide_auc(rolled, labels) == pytest.approx(np.mean(each))


def test_slides_of_several_classes_have_an_area_each():
    labels = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)
    probability = np.array([[0.9, 0.3], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])
    assert class_aucs(probability, labels) == [1, 0.75]
    assert slide_auc(probability, labels) == pytest.approx(0.875)


def test_an_absent_class_is_left_out():
    assert slide_auc(np.eye(3)[[0, 1]], np.array([0, 1])) == 1


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_one_class_only_has_no_figure(truth):
    assert np.isnan(instance_auc(np.array([0.1, 0.9]), np.array(truth)))
    assert np.isnan(instance_ap(np.array([0.1, 0.9]), np.array(truth)))
    assert np.isnan(slide_auc(two_columns([0.1, 0.9]), np.array(truth, int)))


def test_instance_ap():
    # the positives are first and third: precisions 1 and 2/3
    found = instance_ap(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))
    assert found == pytest.approx((1 + 2 / 3) / 2)


def test_dice():
    score, truth = np.array([0.9, 0.5, 0.4, 0.1]), np.array([True, False, True, False])
    assert dice(score, truth, 0.5) == pytest.approx(0.5)
    assert dice(score, truth, 0.95) == 0
    assert np.isnan(dice(score, np.zeros(4, bool), 0.95))


def test_slide_threshold_lies_midway_between_neighbours():
    probabilities = np.array([0.1, 0.2, 0.3, 0.35])
    assert choose_threshold(probabilities, np.array([0, 0, 1, 1])) == pytest.approx(0.25)


def test_slide_threshold_stays_at_a_half_where_that_is_as_good():
    assert choose_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])) == 0.5


def test_slide_threshold_has_the_best_balanced_accuracy():
    draw = np.random.default_rng(0)
    labels = draw.random(300) < 0.2
    probabilities = np.clip(draw.normal(0.3 + 0.2 * labels, 0.15), 0, 1)

    def accuracy(threshold):
        called = probabilities >= threshold
        return (called[labels].mean() + (~called)[~labels].mean()) / 2

    found = accuracy(choose_threshold(probabilities, labels))
    assert found >= max(accuracy(t) for t in np.linspace(0, 1, 501)) - 1e-12


def test_one_class_of_validation_slides_says_nothing():
    assert choose_threshold(np.array([0.7, 0.9]), np.array([1, 1])) == 0.5


def test_tile_threshold_is_a_half_when_negative_slides_are_quiet():
    bags = [np.full(100, 0.1), np.full(100, 0.9)]
    assert choose_tile_threshold(bags, np.array([0, 1])) == 0.5


def test_tile_threshold_rises_until_few_tiles_of_negative_slides_are_left():
    negative = np.linspace(0, 0.99, 1000)
    found = choose_tile_threshold([negative, np.full(5, 0.99)], np.array([False, True]))
    assert found > 0.9
    assert (negative >= found).sum() == 10
    assert (negative >= found - 0.01).sum() > 10


def test_tile_threshold_ignores_positive_and_empty_slides():
    quiet = np.full(50, 0.2)
    bags = [quiet, np.zeros(0), np.full(50, 0.99)]
    assert choose_tile_threshold(bags, np.array([0, 0, 1])) == 0.5
    assert choose_tile_threshold(bags[2:], np.array([1])) == 0.5


def test_tile_threshold_never_leaves_zero_to_one():
    assert choose_tile_threshold([np.ones(10)], np.array([0])) <= 1


def test_brier():
    assert brier(two_columns([0.5, 1.0]), np.array([0, 1])) == pytest.approx(0.125)
    assert brier(np.array([[0.5, 0.5, 0.0]]), np.array([0])) == pytest.approx(0.5)


def test_bins_hold_about_equally_many_and_never_part_equal_values():
    values = np.random.default_rng(0).random(103)
    bins = equal_bins(values, 10)
    assert [len(rows) for rows in bins] == pytest.approx([10.3] * 10, abs=1)
    assert np.array_equal(np.concatenate([np.sort(values[rows]) for rows in bins]), np.sort(values))
    tied = np.repeat([0.2, 0.5, 0.9], [5, 90, 5])
    assert sum(len(np.unique(tied[rows])) for rows in equal_bins(tied, 10)) == 3
    assert equal_bins(np.zeros(0), 10) == []


def test_the_order_of_rows_says_nothing_of_calibration():
    same = np.full((100, 2), 0.5)
    assert calibration_error(same, np.repeat([0, 1], 50)) == pytest.approx(0)


def test_a_tile_that_has_to_stay_out_stays_out_when_the_threshold_was_written_down():
    tiles = [np.full(100, np.float32(p)) for p in (0.7, 0.6123456)]
    threshold = float(f"{choose_tile_threshold(tiles, np.array([False, False])):.9g}")
    assert not (tiles[0] >= threshold).any()


def test_calibration_error():
    half = two_columns(np.full(100, 0.5))
    assert calibration_error(half, np.arange(100) % 2, n_bins=1) == pytest.approx(0)
    assert calibration_error(half, np.ones(100, int)) == pytest.approx(0.5)
    sure_and_wrong = two_columns([0.0, 1.0])
    assert calibration_error(sure_and_wrong, np.array([1, 0])) == pytest.approx(1)
    assert calibration_error(np.eye(3), np.array([0, 1, 2])) == pytest.approx(0)


def test_figures_of_classes_that_do_not_exclude_each_other_are_means_of_each():
    probability = np.array([[0.2, 0.9, 0.6], [0.7, 0.1, 0.3], [0.1, 0.8, 0.9]])
    truth = np.array([[False, True, True], [True, False, False], [False, True, False]])
    for figure in (brier, calibration_error):
        each = [
            figure(np.column_stack([1 - p, p]), t.astype(int))
            for p, t in zip(probability.T, truth.T, strict=True)
        ]
        assert figure(probability, truth) == pytest.approx(np.mean(each))
