"""ROC and precision-recall curves of weighted rows, many resamples at a time.

A row is a slide, a patient or a level of tile scores. `positive` and `negative` say how much of each class
a row holds: a slide holds one of either; a level of scores any number of tiles.
"""

from dataclasses import dataclass

import numpy as np

from .intervals import Interval, bootstrap, of_samples, perfect_auc_interval


@dataclass(frozen=True)
class Ranking:
    """What lies at or above each level of a score, the highest level first.

    `hits` and `false` float64 (R, L): the weight of the positive and of the negative, one row a resample.
    """

    hits: np.ndarray
    false: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> "Ranking":
        """Rank rows by `score` (B,) for the bool `truth` (B,), each counting `weights` (R, B) times."""
        truth = np.asarray(truth, bool)
        weights = np.ones((1, len(truth))) if weights is None else weights
        order = np.argsort(-np.asarray(score), kind="stable")
        is_last = np.append(np.diff(np.asarray(score)[order]) != 0, True)[: len(order)]
        sorted_weights = weights[:, order]
        hits = np.cumsum(sorted_weights * truth[order], axis=1)[:, is_last]
        return cls(hits, np.cumsum(sorted_weights, axis=1)[:, is_last] - hits)

    @property
    def recall(self) -> np.ndarray:
        """The share of the positive that is found at each level, (R, L); NaN where there is none."""
        return _share(self.hits, self.hits[:, -1:])

    @property
    def false_rate(self) -> np.ndarray:
        """The share of the negative that is found at each level, (R, L); NaN where there is none."""
        return _share(self.false, self.false[:, -1:])

    @property
    def precision(self) -> np.ndarray:
        """The share of the positive in what is found at each level, (R, L)."""
        return _share(self.hits, self.hits + self.false)

    def auc(self) -> np.ndarray:
        """Return the areas under the ROC curves, (R,); NaN where one class is absent."""
        hits, false = (np.pad(a, ((0, 0), (1, 0))) for a in (self.hits, self.false))
        # of counts, which are exact: the area of a ranking without any mistake is 1 to the last bit
        return _share(np.trapezoid(hits, false, axis=1), hits[:, -1] * false[:, -1])

    def average_precision(self) -> np.ndarray:
        """Return the average precisions, (R,); NaN where one class is absent."""
        steps = np.diff(np.pad(self.recall, ((0, 0), (1, 0))), axis=1)
        summed = np.where(steps > 0, steps * self.precision, 0).sum(axis=1)
        return np.where((self.hits[:, -1] > 0) & (self.false[:, -1] > 0), summed, np.nan)

    def recall_at(self, false_rate: np.ndarray) -> np.ndarray:
        """Return the recall at false positive rates (G,), (R, G): straight between the levels."""
        pairs = zip(self.false_rate, self.recall, strict=True)
        rows = [np.interp(false_rate, np.append(0, f), np.append(0, r)) for f, r in pairs]
        return np.stack(rows)

    def precision_at(self, recall: np.ndarray) -> np.ndarray:
        """Return the precision at recalls (G,), (R, G): that of the highest level that reaches it."""
        last = self.hits.shape[1] - 1
        pairs = zip(self.precision, self.recall, strict=True)
        rows = [p[np.minimum(np.searchsorted(r, recall - 1e-12), last)] for p, r in pairs]
        return np.where(np.isnan(self.recall[:, -1:]), np.nan, np.stack(rows))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def auc_interval(score: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> Interval:
    """Return the interval of the area under the ROC: by resampled patients, or where it is 0 or 1 Newcombe's.

    `score` (B,), `truth` bool (B,), `patients` (B,). NaN where one class is absent.
    """
    truth, patients = np.asarray(truth, bool), np.asarray(patients)
    if truth.all() or not truth.any():
        return float("nan"), float("nan")
    auc = float(Ranking.of(score, truth).auc()[0])
    if auc in (0, 1):
        return perfect_auc_interval(auc, len(set(patients[truth])), len(set(patients[~truth])))
    return of_samples(bootstrap(lambda w: Ranking.of(score, truth, w).auc(), patients))
