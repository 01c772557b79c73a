"""ROC, precision-recall, calibration and decision curves of each class, as pandas frames."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from .calibration_curve import calibration_bins
from .intervals import bootstrap, percentiles
from .net_benefit import net_benefit
from .predicted import Predicted
from .ranking import Ranking

_GRID = np.linspace(0, 1, 101)


def roc_curves(predicted: Predicted) -> pd.DataFrame:
    """Return the ROC curve of each class: class, false_positive_rate, sensitivity, low, high.

    The band holds the sensitivity at a false positive rate, of resampled patients. A class that all or none
    are of has no curve.
    """
    columns = ["class", "false_positive_rate", "sensitivity", "low", "high"]
    return _of_classes(predicted, _roc, columns)


def precision_recall_curves(predicted: Predicted) -> pd.DataFrame:
    """Return the precision-recall curve of each class: class, recall, precision, low, high.

    Precision is that of the highest threshold that reaches the recall, the band of resampled patients.
    """
    return _of_classes(predicted, _precision_recall, ["class", "recall", "precision", "low", "high"])


def _of_classes(p: Predicted, curve: Callable[..., pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    frames = [
        curve(p.probability[:, c], p.truth[:, c], p.patients).assign(**{"class": p.names[c]})
        for c in p.judged
        if 0 < p.truth[:, c].sum() < len(p)
    ]
    joined = pd.concat(frames, ignore_index=True) if frames else None
    return pd.DataFrame(joined, columns=columns)


def _roc(score: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> pd.DataFrame:
    ranking = Ranking.of(score, truth)
    own = np.column_stack([np.append(0, ranking.false_rate[0]), np.append(0, ranking.recall[0])])
    between = np.setdiff1d(_GRID, own[:, 0])
    points = np.concatenate([own, np.column_stack([between, np.interp(between, *own.T)])])
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    low, high = percentiles(bootstrap(lambda w: Ranking.of(score, truth, w).recall_at(_GRID), patients))
    band = {"low": np.interp(points[:, 0], _GRID, low), "high": np.interp(points[:, 0], _GRID, high)}
    return pd.DataFrame({"false_positive_rate": points[:, 0], "sensitivity": points[:, 1], **band})


def _precision_recall(score: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> pd.DataFrame:
    ranking, grid = Ranking.of(score, truth), _GRID
    recall = np.union1d(grid, ranking.recall[0])
    low, high = percentiles(bootstrap(lambda w: Ranking.of(score, truth, w).precision_at(grid), patients))
    band = {"low": np.interp(recall, grid, low), "high": np.interp(recall, grid, high)}
    return pd.DataFrame({"recall": recall, "precision": ranking.precision_at(recall)[0], **band})


def calibration_curves(predicted: Predicted) -> pd.DataFrame:
    """Return the calibration curve of each class, before and after calibration.

    Columns: class, when ("before", "after"), bin, mean_probability, share, low, high, n.
    """
    p, frames = predicted, []
    for c in p.judged:
        for when, probability in (("before", p.uncalibrated), ("after", p.probability)):
            bins = calibration_bins(probability[:, c], p.truth[:, c], p.patients)
            bins.insert(0, "when", when)
            bins.insert(0, "class", p.names[c])
            frames.append(bins)
    return pd.concat([f for f in frames if len(f)] or frames, ignore_index=True)


def decision_curves(predicted: Predicted) -> pd.DataFrame:
    """Return the decision curve of each class: class, threshold, model, low, high, all (`net_benefit`)."""
    columns = ["class", "threshold", "model", "low", "high", "all"]
    return _of_classes(predicted, net_benefit, columns)
