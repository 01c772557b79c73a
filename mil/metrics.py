"""Figures of merit of slides and tiles, and the thresholds chosen on validation bags alone.

Where a figure is not defined, as an AUC of one class, it is NaN.
"""

from collections.abc import Sequence

import numpy as np


def slide_auc(probability: np.ndarray, labels: np.ndarray) -> float:
    """Return the area under the ROC of slides; of three or more classes the mean of `class_aucs`.

    `probability` (B, C); `labels` int (B,), or bool (B, C) where a slide may be of several classes.
    """
    each = class_aucs(probability, labels)
    if len(each) == 2 and labels.ndim == 1:
        return each[1]
    defined = [auc for auc in each if not np.isnan(auc)]
    return float(np.mean(defined)) if defined else float("nan")


def class_aucs(probability: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return the area under the ROC of each class against the rest; NaN of one that all or none are of."""
    truth = _is_of(labels, probability.shape[1])
    return [instance_auc(score, is_of) for score, is_of in zip(probability.T, truth.T, strict=True)]


def _is_of(labels: np.ndarray, n_classes: int) -> np.ndarray:
    return labels if labels.ndim == 2 else labels[:, None] == np.arange(n_classes)


def instance_auc(score: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the ROC of `score` (N,) for the bool `truth` (N,)."""
    truth = np.asarray(truth, bool)
    if truth.all() or not truth.any():
        return float("nan")
    from sklearn.metrics import roc_auc_score  # slow to import

    return float(roc_auc_score(truth, score))


def instance_ap(score: np.ndarray, truth: np.ndarray) -> float:
    """Return the average precision of `score` (N,) for the bool `truth` (N,)."""
    truth = np.asarray(truth, bool)
    if truth.all() or not truth.any():
        return float("nan")
    from sklearn.metrics import average_precision_score  # slow to import

    return float(average_precision_score(truth, score))


def log_loss(probability: np.ndarray, truth: np.ndarray) -> float:
    """Return the log loss of `probability` (N, C) for the classes `truth`: int (N,), or bool (N, C).

    The mean of minus the log of what the true class was given, in nats. Where classes do not exclude each
    other, bool `truth`, it is the mean of each class's own.
    """
    if not len(truth):
        return float("nan")
    exact = np.asarray(probability, np.float64)
    is_of = _is_of(truth, exact.shape[1])
    given = np.where(is_of, exact, 1 - exact) if truth.ndim == 2 else exact[is_of]
    return float(-np.log(np.maximum(given, np.finfo(np.float64).tiny)).mean())


def brier(probability: np.ndarray, truth: np.ndarray) -> float:
    """Return the Brier score of `probability` (N, C) for the classes `truth`: int (N,), or bool (N, C).

    Of two classes the mean square of p(second) minus truth; of more, squares are summed over the classes.
    Where classes do not exclude each other, bool `truth`, it is the mean of each class's own.
    """
    if not len(truth):
        return float("nan")
    squares = np.square(probability - _is_of(truth, probability.shape[1]))
    if truth.ndim == 2:
        return float(squares.mean())
    return float(squares.sum(axis=1).mean() / (2 if probability.shape[1] == 2 else 1))


def calibration_error(probability: np.ndarray, truth: np.ndarray, n_bins: int = 10) -> float:
    """Return the expected calibration error of `probability` (N, C) for the classes `truth`: int or bool.

    `truth` is int (N,), or bool (N, C) where classes do not exclude each other. Probabilities of one class
    are cut into `equal_bins`; the mean of how far each bin's mean lies from the share of truth in
    it (Naeini et al. 2015). Of three or more classes, or ones that do not exclude each other, the mean of
    each against the rest (Kull et al., arXiv 1910.12656). With few slides it is large by chance alone.
    """
    if not len(truth):
        return float("nan")
    is_of = _is_of(truth, probability.shape[1])
    each = []
    for c in range(int(is_of.shape[1] == 2 and truth.ndim == 1), is_of.shape[1]):
        gaps = [
            abs(probability[rows, c].mean() - is_of[rows, c].mean()) * len(rows)
            for rows in equal_bins(probability[:, c], n_bins)
        ]
        each.append(sum(gaps) / len(probability))
    return float(np.mean(each))


def equal_bins(values: np.ndarray, n_bins: int) -> list[np.ndarray]:
    """Return the rows of bins of about equally many `values` (N,), ascending; equal values share a bin.

    There are fewer than `n_bins` where values are fewer, or often the same.
    """
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle, n = np.cumsum(counts) - counts / 2, len(values)
    bin_of = (middle * min(n_bins, n) / max(n, 1)).astype(int)[which]
    return [np.flatnonzero(bin_of == number) for number in np.unique(bin_of)]


def dice(score: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """Return the Dice overlap of the tiles at or above `threshold` with the bool `truth` (N,)."""
    found, truth = np.asarray(score) >= threshold, np.asarray(truth, bool)
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else float("nan")


def choose_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the slide threshold of the best balanced accuracy on validation bags.

    `probabilities` (B,) of the positive class, `labels` (B,) bool. Midway between two neighbours, and
    of equally good places the one nearest to 0.5; 0.5 where only one class is present.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels, bool)
    if labels.all() or not labels.any():
        return 0.5
    levels = np.unique(probabilities)
    candidates = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    candidates = np.append(candidates, 0.5)  # a calibrated learner's own, if it is as good as any
    called = probabilities[:, None] >= candidates
    accuracy = (called[labels].mean(0) + (~called)[~labels].mean(0)) / 2
    best = candidates[accuracy >= accuracy.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def choose_tile_threshold(
    tile_probabilities: Sequence[np.ndarray], labels: np.ndarray, *, most_false: float = 0.01
) -> float:
    """Return the tile threshold from validation bags with bag labels only.

    0.5, what a calibrated probability asks for, raised until at most `most_false` of the tiles of
    negative bags, the only ones whose truth is known, lie at or above it. `tile_probabilities` holds
    (N,) of the positive class for each bag; `labels` (B,) bool.
    """
    negative = [p for p, label in zip(tile_probabilities, labels, strict=True) if not label and len(p)]
    if not negative:
        return 0.5
    known = np.sort(np.concatenate(negative).astype(np.float64))
    allowed = int(most_false * len(known))
    # just above the highest tile that has to stay out, in the precision of stored scores
    highest = np.nextafter(np.float32(known[len(known) - 1 - allowed]), np.float32(np.inf))
    return min(max(0.5, float(highest)), 1.0)
