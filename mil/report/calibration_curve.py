"""Does a probability mean what it says: calibration curve, its error, and what chance alone would show."""

import numpy as np
import pandas as pd

from mil.metrics import calibration_error, equal_bins

from .intervals import proportion_interval

N_BINS = 10
_LEAST_IN_BIN = 5
_N_DRAWS = 200


def calibration_bins(
    probability: np.ndarray, truth: np.ndarray, patients: np.ndarray, n_bins: int = N_BINS
) -> pd.DataFrame:
    """Return the bins of a calibration curve: mean probability, share of truth with its interval, and n.

    `probability` (B,) of one class, `truth` bool (B,), `patients` (B,). Bins hold about equally many rows,
    fewer bins where there would be less than 5 in each.
    """
    n = max(1, min(n_bins, len(probability) // _LEAST_IN_BIN))
    rows = []
    for number, own in enumerate(equal_bins(probability, n)):
        low, high = proportion_interval(truth[own], patients[own])
        rows.append((number, float(probability[own].mean()), float(truth[own].mean()), low, high, len(own)))
    return pd.DataFrame(rows, columns=["bin", "mean_probability", "share", "low", "high", "n"])


def error_by_chance(probability: np.ndarray, *, is_exclusive: bool = True, seed: int = 0) -> float:
    """Return the mean calibration error of labels that are drawn from the probabilities themselves.

    That is what as many slides show of a model whose probabilities are right. `probability` (B, C).
    """
    if not len(probability):
        return float("nan")
    rng, (n_rows, n_classes) = np.random.default_rng(seed), probability.shape
    errors = []
    for _ in range(_N_DRAWS):
        if is_exclusive:
            edges = np.cumsum(probability, axis=1)[:, :-1]
            drawn = (rng.random((n_rows, 1)) > edges).sum(axis=1)
        else:
            drawn = rng.random((n_rows, n_classes)) < probability
        errors.append(calibration_error(probability, drawn))
    return float(np.mean(errors))
