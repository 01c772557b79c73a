"""The report's statistics against scikit-learn, definitions and cases done by hand."""

import sys
import time

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from mil.metrics import calibration_error
from mil.report.calibration_curve import calibration_bins, error_by_chance
from mil.report.delong import delong, delong_test
from mil.report.froc import (
    FALSE_POSITIVES,
    SlideDetections,
    froc_curve,
    froc_levels,
    froc_table,
    local_maxima,
)
from mil.report.intervals import (
    bootstrap,
    of_samples,
    patient_weights,
    percentiles,
    perfect_auc_interval,
    proportion_interval,
)
from mil.report.net_benefit import net_benefit
from mil.report.ranking import Ranking, auc_interval


@pytest.fixture(params=[0, 1, 2])
def scored(request):
    """Scores with ties, truth and whole weights of 60 rows."""
    rng = np.random.default_rng(request.param)
    truth = rng.random(60) < 0.4
    score = np.round(truth * 0.7 + rng.normal(0, 0.6, 60), 1)
    return score, truth, rng.integers(0, 4, (5, 60)).astype(float)


def test_area_and_average_precision_of_resamples_are_scikit_learns_of_weights(scored):
    score, truth, weights = scored
    ranking = Ranking.of(score, truth, weights)
    for w, auc, ap in zip(weights, ranking.auc(), ranking.average_precision(), strict=True):
        assert auc == pytest.approx(roc_auc_score(truth, score, sample_weight=w))
        assert ap == pytest.approx(average_precision_score(truth, score, sample_weight=w))


def test_curves_are_scikit_learns(scored):
    score, truth, _ = scored
    ranking = Ranking.of(score, truth)
    false_rate, recall, _ = roc_curve(truth, score, drop_intermediate=False)
    grid = np.linspace(0.005, 0.995, 50)
    assert np.allclose(ranking.recall_at(grid)[0], np.interp(grid, false_rate, recall))
    precisions, recalls, _ = precision_recall_curve(truth, score)
    expected = [precisions[recalls >= r - 1e-12][-1] for r in grid]  # of the strictest threshold
    assert np.allclose(ranking.precision_at(grid)[0], expected)


def test_one_class_has_no_figure_and_warns_of_nothing():
    ranking = Ranking.of(np.array([0.1, 0.9]), np.array([True, True]))
    assert np.isnan(ranking.auc()[0])
    assert np.isnan(ranking.average_precision()[0])
    assert np.isnan(auc_interval(np.array([0.1, 0.9]), np.array([True, True]), np.array(["a", "b"]))).all()


def test_patients_are_drawn_whole():
    patients = np.array(["a", "b", "a", "c", "b"])
    weights = np.concatenate(list(patient_weights(patients, 100)))
    assert weights.shape == (100, 5)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_a_bootstrapped_mean_covers_as_often_as_it_says():
    """200 cohorts of 40 patients with 1 to 3 slides that resemble each other."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        patients = np.repeat(np.arange(40), rng.integers(1, 4, 40))
        values = (rng.normal(0, 1, 40))[patients] + rng.normal(0, 0.3, len(patients))
        samples = bootstrap(
            lambda w, v=values: w @ v / w.sum(axis=1), patients, n_resamples=300, seed=int(rng.integers(1e9))
        )
        low, high = percentiles(samples)
        covered += low <= 0 <= high
    assert 0.89 <= covered / 200 <= 0.98


def test_the_interval_of_an_area_covers_it():
    """150 cohorts of 30 patients; the true area is that of two normal distributions one apart."""
    rng, covered, true = np.random.default_rng(1), 0, 0.7602499389
    for _ in range(150):
        patients = np.repeat(np.arange(30), 2)
        truth = patients % 2 == 0
        score = truth + rng.normal(0, np.sqrt(0.5), 30)[patients] + rng.normal(0, np.sqrt(0.5), 60)
        low, high = auc_interval(score, truth, patients)
        covered += low <= true <= high
    assert 0.89 <= covered / 150 <= 0.99


def test_a_proportion_of_single_slides_has_wilsons_interval():
    hits = np.arange(50) < 45
    low, high = proportion_interval(hits, np.arange(50))
    assert (low, high) == pytest.approx((0.7864, 0.9565), abs=1e-3)  # Wilson of 45 in 50
    assert proportion_interval(np.ones(10, bool), np.arange(10)) == pytest.approx((0.7225, 1), abs=1e-3)


def test_copies_of_a_slide_tell_nothing_new():
    hits = np.arange(50) < 45
    once = proportion_interval(hits, np.arange(50))
    assert proportion_interval(np.tile(hits, 4), np.tile(np.arange(50), 4)) == pytest.approx(once, abs=0.01)
    assert np.isnan(proportion_interval(np.zeros(0, bool), np.zeros(0))).all()


def test_a_perfect_area_has_an_interval_that_solves_newcombes_equation():
    low, high = perfect_auc_interval(1, 12, 10)
    assert high == 1
    other = (12 + 10) / 2 - 1
    variance = low * (1 - low) * (1 + other * ((1 - low) / (2 - low) + low / (1 + low))) / 120
    assert 1 - low == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)
    assert perfect_auc_interval(0, 12, 10) == pytest.approx((0, 1 - low))
    assert perfect_auc_interval(1, 1000, 1000)[0] > 0.998
    patients = np.arange(22)
    assert auc_interval(np.arange(22), np.arange(22) >= 10, patients) == pytest.approx((low, 1))


def by_definition(scores, truth):
    """DeLong's areas and covariance by comparing each pair, as the paper of 1988 has it."""
    kernel = [(s[truth][:, None] > s[~truth]) + 0.5 * (s[truth][:, None] == s[~truth]) for s in scores]
    v10, v01 = np.stack([k.mean(1) for k in kernel]), np.stack([k.mean(0) for k in kernel])
    m, n = truth.sum(), (~truth).sum()
    return np.array([k.mean() for k in kernel]), np.cov(v10) / m + np.cov(v01) / n


@pytest.mark.parametrize("n", range(8, 61))
@pytest.mark.parametrize("n_of_negative", [lambda n: n, lambda n: 2 * n + 1])
def test_a_ranking_without_any_mistake_is_perfect_to_the_last_bit(n, n_of_negative):
    m = n_of_negative(n)
    score = np.concatenate([np.linspace(0.6, 1, n), np.linspace(0, 0.4, m)])
    truth, patients = np.arange(n + m) < n, np.arange(n + m)
    assert Ranking.of(score, truth).auc()[0] == 1
    assert Ranking.of(-score, truth).auc()[0] == 0
    assert auc_interval(score, truth, patients) == perfect_auc_interval(1, n, m)
    precision = bootstrap(
        lambda w: Ranking.of(score, truth, w).average_precision(), patients, n_resamples=100
    )
    assert np.isnan(of_samples(precision)).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_fast_delong_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(80) < 0.35
    scores = np.round(truth + rng.normal(0, 1, (3, 80)), 1)
    aucs, covariance = by_definition(scores, truth)
    found = delong(scores, truth)
    assert np.allclose(found[0], aucs)
    assert np.allclose(found[1], covariance)
    assert np.allclose(delong(scores, truth, np.arange(80))[1], covariance)  # a patient each changes nothing


def test_a_case_of_delong_by_hand():
    """Three positive and two negative rows: 5 of 6 pairs in order against 4 of 6."""
    truth = np.array([True, True, True, False, False])
    first, second = np.array([5, 4, 2, 3, 1]), np.array([5, 2, 3, 4, 1])
    aucs, covariance = delong(np.stack([first, second]), truth)
    assert aucs == pytest.approx([5 / 6, 4 / 6])
    # placements of the positives 1, 1, 1/2 and 1, 1/2, 1/2; of the negatives 2/3, 1 and 1/3, 1
    assert covariance[0, 0] == pytest.approx((1 / 12) / 3 + (1 / 18) / 2)
    assert covariance[1, 1] == pytest.approx((1 / 12) / 3 + (2 / 9) / 2)
    assert covariance[0, 1] == pytest.approx((1 / 24) / 3 + (1 / 9) / 2)
    told = delong_test(first, second, truth)
    variance = (1 / 12) / 3 + (1 / 18) / 2 + (1 / 12) / 3 + (2 / 9) / 2 - 2 * ((1 / 24) / 3 + (1 / 9) / 2)
    assert told.difference == pytest.approx(1 / 6)
    assert told.p_value == pytest.approx(2 * norm.sf(1 / 6 / np.sqrt(variance)))


def test_delong_holds_its_level_for_slides_of_one_patient_and_not_without_them():
    rng, with_patients, without = np.random.default_rng(3), 0, 0
    patients = np.repeat(np.arange(40), 4)
    truth = patients % 2 == 0
    for _ in range(300):
        a, b = (truth + rng.normal(0, 1, 40)[patients] + rng.normal(0, 0.2, 160) for _ in range(2))
        with_patients += delong_test(a, b, truth, patients).p_value < 0.05
        without += delong_test(a, b, truth).p_value < 0.05
    assert with_patients / 300 < 0.11
    assert without / 300 > 0.2


def test_the_same_scores_are_no_different():
    truth = np.array([True, True, False, False])
    told = delong_test(np.arange(4), np.arange(4) * 2, truth)
    assert (told.difference, told.p_value) == (0, 1)
    with pytest.raises(ValueError, match="0 negative"):
        delong(np.arange(3), np.ones(3, bool))


def test_areas_that_cannot_be_told_apart_have_no_interval():
    truth = np.array([True, True, False, False])
    perfect = delong_test(np.array([0.9, 0.8, 0.1, 0.2]), np.array([0.7, 0.6, 0.1, 0.3]), truth)
    assert np.isnan(perfect.interval).all()
    patients = np.array(["a", "a", "b", "b"])  # one of a class
    few = delong_test(np.array([0.9, 0.8, 0.1, 0.2]), np.array([0.1, 0.6, 0.7, 0.3]), truth, patients)
    assert np.isnan([*few.interval, few.p_value]).all()


def test_calibration_bins_are_scikit_learns_quantile_bins():
    rng = np.random.default_rng(4)
    probability = rng.random(200)
    truth = rng.random(200) < probability
    bins = calibration_bins(probability, truth, np.arange(200))
    share, mean = calibration_curve(truth, probability, n_bins=10, strategy="quantile")
    assert np.allclose(bins["share"], share)
    assert np.allclose(bins["mean_probability"], mean)
    error = (np.abs(bins["share"] - bins["mean_probability"]) * bins["n"]).sum() / 200
    assert error == pytest.approx(calibration_error(np.stack([1 - probability, probability], 1), truth * 1))
    assert len(calibration_bins(probability[:12], truth[:12], np.arange(12))) == 2


def test_chance_alone_shows_a_calibration_error_that_shrinks_with_slides():
    rng = np.random.default_rng(5)
    few, many = (np.stack([1 - p, p], axis=1) for p in (rng.random(20), rng.random(2000)))
    assert error_by_chance(few) > 0.1 > 0.04 > error_by_chance(many)


def test_net_benefit_by_hand():
    probability, truth = np.array([0.9, 0.6, 0.4, 0.1]), np.array([True, False, True, False])
    frame = net_benefit(probability, truth, np.arange(4)).set_index("threshold")
    assert frame.model[0.5] == pytest.approx(1 / 4 - 1 / 4)
    assert frame.model[0.2] == pytest.approx(2 / 4 - 1 / 4 * 0.25)
    assert frame["all"][0.2] == pytest.approx(0.5 - 0.5 * 0.25)


def test_detections_are_local_maxima_and_a_plateau_is_one():
    x, y = np.meshgrid(np.arange(6), np.arange(3))
    centres = np.stack([x.ravel(), y.ravel()], axis=1) * 100.0
    scores = np.array([[9, 1, 0, 5, 5, 5], [1, 1, 0, 5, 5, 5], [0, 0, 0, 5, 5, 5]], float)
    assert local_maxima(centres, 100, scores.ravel()).tolist() == [0, 10]  # the plateau's middle
    scores[1, 2] = 6  # touches the plateau by its edge, and exceeds it
    assert local_maxima(centres, 100, scores.ravel()).tolist() == [0, 8]
    assert local_maxima(np.zeros((0, 2)), 100, np.zeros(0)).tolist() == []
    assert local_maxima(np.zeros((1, 2)), 100, np.ones(1)).tolist() == [0]


def test_froc_by_hand():
    """Three lesions on two slides, found at 0.9, 0.6 and never; four false ones on four slides."""
    slides = [
        SlideDetections("a", np.array([0.9, -np.inf]), np.array([0.7])),
        SlideDetections("b", np.array([0.6]), np.array([0.8, 0.65])),
        SlideDetections("c", np.zeros(0), np.array([0.1])),
        SlideDetections("d", np.zeros(0), np.zeros(0)),
    ]
    told = froc_table(slides).set_index("false_positives").sensitivity
    assert told["0.25"] == pytest.approx(1 / 3)  # up to 0.75, with the one at 0.8; at 0.6 there are three
    assert told["0.5"] == pytest.approx(1 / 3)
    assert told["1"] == pytest.approx(2 / 3)
    assert told["mean"] == pytest.approx((2 / 3 + 4 * 2 / 3) / 6)
    curve = froc_curve(slides)
    assert curve.false_positives.tolist() == [0, 0.75]
    assert curve.sensitivity.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert len(told) == len(FALSE_POSITIVES) + 1


def test_froc_is_the_same_however_many_levels_are_in_memory(monkeypatch):
    rng, slides = np.random.default_rng(5), []
    for k in range(12):
        lesions = np.where(rng.random(5) < 0.8, rng.random(5), -np.inf)
        slides.append(SlideDetections(f"p{k // 2}", lesions, rng.random(30) ** 3))
    weights = rng.integers(0, 3, (40, 12)).astype(float)
    weights[0] = 0
    whole = froc_levels(slides, weights)
    assert np.isnan(whole[0]).all()
    assert len(np.unique(whole[1:])) > 20
    for most in (1, 3 * (12 + 40)):
        monkeypatch.setattr(sys.modules[froc_levels.__module__], "_AT_A_TIME", most)
        np.testing.assert_array_equal(froc_levels(slides, weights), whole)


def test_froc_without_lesions_says_nothing():
    slides = [SlideDetections("a", np.zeros(0), np.array([0.5]))]
    assert froc_table(slides).sensitivity.isna().all()
    assert froc_table([]).sensitivity.isna().all()


@pytest.mark.slow
def test_two_thousand_resamples_of_ten_thousand_slides_take_seconds():
    rng = np.random.default_rng(6)
    truth = rng.random(10_000) < 0.3
    score = truth + rng.normal(0, 1, 10_000)
    started = time.monotonic()
    auc_interval(score, truth, np.arange(10_000))
    assert time.monotonic() - started < 20
