"""How sure a figure is: resampling of patients, and closed forms where that tells nothing.

Slides of one patient are no independent witnesses, so it is patients that are drawn. An interval is
(low, high), NaN where it is not defined.
"""

from collections.abc import Callable, Iterator

import numpy as np

LEVEL = 0.95
N_RESAMPLES = 2000
_LEAST_DEFINED = 0.5  # share of the resamples in which a figure has to be defined, to have an interval
_LEAST_SPREAD = 1e-9  # less is the rounding of equal sums
_AT_A_TIME = 4_000_000  # weights in memory

Interval = tuple[float, float]


def patient_weights(
    patients: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield how often each row is in each resample of the patients, float64 (r, B), `n_resamples` in all.

    `patients` (B,) names the patient of each row. As many patients as there are are drawn with replacement,
    each with all of its rows.
    """
    names, of_row = np.unique(patients, return_inverse=True)
    rng, n_patients = np.random.default_rng(seed), len(names)
    at_a_time = max(1, _AT_A_TIME // max(1, len(of_row)))
    for first in range(0, n_resamples, at_a_time):
        n = min(at_a_time, n_resamples - first)
        drawn = rng.integers(0, n_patients, (n, n_patients)) + np.arange(n)[:, None] * n_patients
        counts = np.bincount(drawn.ravel(), minlength=n * n_patients).reshape(n, n_patients)
        yield counts[:, of_row].astype(np.float64)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    patients: np.ndarray,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Return a statistic of each resample, (R, ...); it takes weights (r, B) and returns (r, ...)."""
    return np.concatenate([statistic(w) for w in patient_weights(patients, n_resamples, seed)])


def percentiles(samples: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper end of the middle `level` of resampled figures (R, ...), NaN left out."""
    samples = np.asarray(samples, np.float64)
    is_defined = ~np.isnan(samples)
    enough = is_defined.mean(axis=0) >= _LEAST_DEFINED
    # a column of NaN alone would be warned of, and is NaN in the end
    known = np.where(is_defined | enough, samples, 0.0)
    low, high = np.nanquantile(known, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def of_samples(samples: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the interval of one figure from its resamples (R,); NaN where they are all alike.

    As those of a model without any mistake are, whatever the number of slides: they say nothing of how sure
    that is.
    """
    low, high = percentiles(samples, level)
    return (float(low), float(high)) if high - low > _LEAST_SPREAD else (float("nan"), float("nan"))


def quantile_of_normal(level: float = LEVEL) -> float:
    """Return how many deviations the middle `level` of a normal distribution reaches to."""
    from scipy.special import ndtri  # slow to import, if less so than scipy.stats

    return float(ndtri((1 + level) / 2))


def proportion_interval(hits: np.ndarray, patients: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the interval of a share of rows: Wilson's score (1927), with the number that patients are worth.

    `hits` bool (B,), `patients` (B,). That number is p (1 - p) over the variance of the share between
    patients (Korn and Graubard 1998), no more than there are rows; where all rows agree, it is the number
    of patients.
    """
    hits = np.asarray(hits, np.float64)
    if not len(hits):
        return float("nan"), float("nan")
    share, n = float(hits.mean()), _worth(hits, patients)
    z = quantile_of_normal(level)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _worth(hits: np.ndarray, patients: np.ndarray) -> float:
    """As how many independent rows the rows of patients count."""
    names, of_row = np.unique(patients, return_inverse=True)
    share, n_patients = hits.mean(), len(names)
    if share in (0, 1) or n_patients == 1:
        return float(n_patients)
    residuals, n = np.bincount(of_row, hits - share), len(hits)
    variance = n_patients / (n_patients - 1) * float(np.square(residuals).sum()) / n**2
    return float(np.clip(n * share * (1 - share) / (n - 1) / variance, 1, n)) if variance else float(n)


def perfect_auc_interval(auc: float, n_positive: int, n_negative: int, level: float = LEVEL) -> Interval:
    """Return the interval of an AUC of 0 or 1, which no resample differs from: Newcombe's method 5 (2006).

    The areas whose own standard error, of Hanley and McNeil (1982) with the mean of both sizes, reaches as
    far as `auc`.
    """
    from scipy.optimize import brentq  # slow to import

    z, n_other = quantile_of_normal(level), (n_positive + n_negative) / 2 - 1

    def gap(missing: float) -> float:
        a = 1 - missing
        variance = a * missing * (1 + n_other * (missing / (1 + missing) + a / (1 + a)))
        return missing - z * np.sqrt(variance / (n_positive * n_negative))

    missing = float(brentq(gap, 1e-12, 1 - 1e-12))  # type: ignore[arg-type]
    return (1 - missing, 1.0) if auc == 1 else (0.0, missing)
