"""Are two areas under the ROC of the same slides different? DeLong's test, with patients as clusters."""

from dataclasses import dataclass

import numpy as np

from .intervals import LEVEL, Interval, quantile_of_normal


@dataclass(frozen=True)
class Comparison:
    """Two areas under the ROC on the same rows: their difference, its interval and the two-sided p-value."""

    auc: float
    other_auc: float
    difference: float
    interval: Interval
    p_value: float


def delong(
    scores: np.ndarray, truth: np.ndarray, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the areas under the ROC (K,) of K scores of the same rows, and their covariance (K, K).

    `scores` (K, B), `truth` bool (B,). DeLong et al. (1988) by the midranks of Sun and Xu (2014), in the
    time of sorting. With `patients` (B,) rows of one patient count as one cluster (Obuchowski 1997); where
    each has one row, that changes nothing. The covariance is NaN with fewer than two patients of a class.

    Raises:
        ValueError: there is no positive or no negative row.
    """
    scores, truth = np.atleast_2d(np.asarray(scores, np.float64)), np.asarray(truth, bool)
    m, n = int(truth.sum()), int((~truth).sum())
    if not m or not n:
        raise ValueError(f"{m} positive and {n} negative rows, wanted some of both")
    from scipy.stats import rankdata  # slow to import

    whole = rankdata(scores, axis=1)
    above = (whole[:, truth] - rankdata(scores[:, truth], axis=1)) / n  # share of negatives below a positive
    below = 1 - (whole[:, ~truth] - rankdata(scores[:, ~truth], axis=1)) / m
    aucs = above.mean(axis=1)
    names = np.arange(len(truth)) if patients is None else np.unique(patients, return_inverse=True)[1]
    return aucs, _covariance(above - aucs[:, None], below - aucs[:, None], names[truth], names[~truth])


def _covariance(
    above: np.ndarray, below: np.ndarray, patients_above: np.ndarray, patients_below: np.ndarray
) -> np.ndarray:
    """The covariance of areas from their components (K, m), (K, n), less the areas, summed by patient."""
    n_patients = int(max(patients_above.max(), patients_below.max())) + 1
    of_positive = np.stack([np.bincount(patients_above, row, n_patients) for row in above])
    of_negative = np.stack([np.bincount(patients_below, row, n_patients) for row in below])
    m, n = above.shape[1], below.shape[1]
    k_positive, k_negative = (len(np.unique(p)) for p in (patients_above, patients_below))
    if min(k_positive, k_negative) < 2:
        return np.full((len(above), len(above)), np.nan)
    covariance = k_positive / (k_positive - 1) * of_positive @ of_positive.T / m**2
    covariance += k_negative / (k_negative - 1) * of_negative @ of_negative.T / n**2
    both = (
        n_patients / (n_patients - 1) * of_positive @ of_negative.T / (m * n)
    )  # of patients with rows of each
    return covariance + both + both.T


def delong_test(
    score: np.ndarray,
    other: np.ndarray,
    truth: np.ndarray,
    patients: np.ndarray | None = None,
    level: float = LEVEL,
) -> Comparison:
    """Test whether two scores (B,) of the same rows have the same area under the ROC.

    Where both order the rows alike the p-value is 1; it is NaN where there are too few patients.

    Raises:
        ValueError: there is no positive or no negative row.
    """
    from scipy.special import ndtr  # slow to import

    aucs, covariance = delong(np.stack([score, other]), truth, patients)
    difference = float(aucs[0] - aucs[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = np.sqrt(max(variance, 0.0)) if not np.isnan(variance) else np.nan
    if error < 1e-12:  # both orders are the same, or neither makes any mistake
        p_value = 1.0 if abs(difference) < 1e-12 else float("nan")
    else:
        p_value = float(2 * ndtr(-abs(difference) / error))
    half = float(quantile_of_normal(level) * error) if error >= 1e-12 else float("nan")
    low, high = np.clip([difference - half, difference + half], -1, 1)  # keeps NaN
    return Comparison(float(aucs[0]), float(aucs[1]), difference, (float(low), float(high)), p_value)
