"""The tables of the report: how good the predictions are, as pandas frames. NaN is what is not defined."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mil.metrics import brier, calibration_error, instance_ap, slide_auc

from .calibration_curve import error_by_chance
from .intervals import bootstrap, of_samples, proportion_interval
from .predicted import Predicted
from .ranking import Ranking, auc_interval

SMALL_GROUP = 10  # patients: what is said of fewer is hardly more than their names
_NOT_DEFINED = (float("nan"), float("nan"))


def headline_table(predicted: Predicted) -> pd.DataFrame:
    """Return the figures that a reader asks for first: columns figure, value, low, high, n.

    `n` is how many slides or patients a figure is of. Of two classes that exclude each other sensitivity and
    specificity are of the second; of more the AUC is the mean of each class against the rest. Shares are
    at the frozen threshold.
    """
    p, rows = predicted, []
    rows.append(("AUC", *_auc(p), len(p)))
    rows.append(_share("accuracy", p.is_right, p.patients))
    if len(p.judged) == 1:
        positive = p.truth[:, 1]
        rows.append(_share("sensitivity", p.called[positive, 1], p.patients[positive]))
        rows.append(_share("specificity", ~p.called[~positive, 1], p.patients[~positive]))
    rows.append(("balanced accuracy", *_resampled(p, _balanced_accuracy), len(p)))
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high", "n"])


def class_table(predicted: Predicted) -> pd.DataFrame:
    """Return for each judged class against the rest: n, n_positive, and figures with `_low` and `_high`.

    They are auc, average_precision, and at the frozen threshold sensitivity, specificity, ppv and npv.
    """
    return pd.DataFrame([_of_class(predicted, c) for c in predicted.judged])


def _of_class(p: Predicted, c: int) -> dict[str, object]:
    truth, called, score = p.truth[:, c], p.called[:, c], p.probability[:, c]
    figures = {
        "auc": (_one_auc(score, truth), *auc_interval(score, truth, p.patients)),
        "average_precision": _average_precision(p, c),
        "sensitivity": _share("", called[truth], p.patients[truth])[1:4],
        "specificity": _share("", ~called[~truth], p.patients[~truth])[1:4],
        "ppv": _share("", truth[called], p.patients[called])[1:4],
        "npv": _share("", ~truth[~called], p.patients[~called])[1:4],
    }
    told: dict[str, object] = {"class": p.names[c], "n": len(p), "n_positive": int(truth.sum())}
    for name, (value, low, high) in figures.items():
        told |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return told


def _average_precision(p: Predicted, c: int) -> tuple[float, float, float]:
    score, truth = p.probability[:, c], p.truth[:, c]
    value = instance_ap(score, truth)
    if np.isnan(value):
        return float("nan"), *_NOT_DEFINED
    samples = bootstrap(lambda w: Ranking.of(score, truth, w).average_precision(), p.patients)
    return value, *of_samples(samples)


def _one_auc(score: np.ndarray, truth: np.ndarray) -> float:
    return float(Ranking.of(score, truth).auc()[0]) if len(truth) else float("nan")


def _auc(p: Predicted) -> tuple[float, float, float]:
    """The AUC, of several judged classes their mean, with its interval."""
    if not len(p):
        return float("nan"), *_NOT_DEFINED
    if len(p.judged) == 1:
        score, truth = p.probability[:, 1], p.truth[:, 1]
        return _one_auc(score, truth), *auc_interval(score, truth, p.patients)
    defined = [c for c in p.judged if 0 < p.truth[:, c].sum() < len(p)]
    if not defined:
        return float("nan"), *_NOT_DEFINED
    value = slide_auc(p.probability, p.labels)

    def mean(weights: np.ndarray) -> np.ndarray:
        return np.mean(
            [Ranking.of(p.probability[:, c], p.truth[:, c], weights).auc() for c in defined], axis=0
        )

    return value, *of_samples(bootstrap(mean, p.patients))


def _share(name: str, hits: np.ndarray, patients: np.ndarray) -> tuple[str, float, float, float, int]:
    value = float(hits.mean()) if len(hits) else float("nan")
    return name, value, *proportion_interval(hits, patients), len(hits)


def _balanced_accuracy(p: Predicted, weights: np.ndarray) -> np.ndarray:
    """The mean over classes of the share that is called right, as `mil.evaluate` has it, (R,)."""
    each = []
    for c in range(len(p.names)):
        for rows, right in ((p.truth[:, c], p.called[:, c]), (~p.truth[:, c], ~p.called[:, c])):
            if rows.any():
                own = weights[:, rows]
                total = own.sum(axis=1)
                found = own @ right[rows].astype(np.float64)
                each.append(np.divide(found, total, out=np.full(len(own), np.nan), where=total > 0))
            if p.is_exclusive:
                break
    return np.mean(each, axis=0) if each else np.full(len(weights), np.nan)


def _brier(p: Predicted, weights: np.ndarray, *, probability: np.ndarray) -> np.ndarray:
    squares = np.square(probability - p.truth)
    own = (
        squares.mean(axis=1) if not p.is_exclusive else squares.sum(axis=1) / (2 if len(p.names) == 2 else 1)
    )
    return weights @ own / weights.sum(axis=1)


def _resampled(
    p: Predicted, statistic: Callable[[Predicted, np.ndarray], np.ndarray]
) -> tuple[float, float, float]:
    """A figure of all rows, and its interval by resampled patients."""
    if not len(p):
        return float("nan"), *_NOT_DEFINED
    value = float(statistic(p, np.ones((1, len(p))))[0])
    return value, *of_samples(bootstrap(lambda w: statistic(p, w), p.patients))


def calibration_table(predicted: Predicted) -> pd.DataFrame:
    """Return how well calibrated the probabilities are, before and after calibration.

    Columns: when, ece, ece_by_chance (the mean of labels drawn from the probabilities), brier, brier_low,
    brier_high.
    """
    p, rows = predicted, []
    for when, probability in (("before", p.uncalibrated), ("after", p.probability)):
        low, high = _NOT_DEFINED
        if len(p):
            _, low, high = _resampled(p, lambda p, w, own=probability: _brier(p, w, probability=own))
        chance = error_by_chance(probability, is_exclusive=p.is_exclusive)
        error, score = calibration_error(probability, p.labels), brier(probability, p.labels)
        rows.append((when, error, chance, score, low, high))
    columns = ["when", "ece", "ece_by_chance", "brier", "brier_low", "brier_high"]
    return pd.DataFrame(rows, columns=columns)


def confusion_table(predicted: Predicted) -> pd.DataFrame:
    """Return how many of each label (rows) were called what (columns), counts at the frozen threshold.

    Where classes do not exclude each other: for each class (rows) how many that are of it were called so and
    not, and how many that are not.
    """
    p = predicted
    if p.is_exclusive:
        counts = p.truth.T.astype(int) @ p.called.astype(int)
        name = "labelled" if "label" in p.names else "label"  # which is a column beside the classes
        return pd.DataFrame(counts, index=pd.Index(p.names, name=name), columns=list(p.names))
    cells = {"found": p.truth & p.called, "missed": p.truth & ~p.called,
             "false": ~p.truth & p.called, "rightly not": ~p.truth & ~p.called}  # fmt: skip
    counts = {name: cell.sum(axis=0) for name, cell in cells.items()}
    return pd.DataFrame(counts, index=pd.Index(p.names, name="class"))


def fold_table(predicted: Predicted) -> pd.DataFrame:
    """Return AUC, accuracy and counts of each fold, of all pooled, and the folds' mean and deviation.

    Columns: fold, n, n_patients, auc, accuracy. Pooled ranks slides of different fold models against each
    other; the mean does not.
    """
    p, names = predicted, sorted(set(predicted.folds), key=lambda f: (len(f), f))
    rows = [_of_fold(p.of(p.folds == name), name or "final model") for name in names]
    frame = pd.DataFrame([*rows, _of_fold(p, "pooled")])
    if len(names) > 1:
        each = frame.iloc[:-1]
        for name, by in (("mean of folds", "mean"), ("deviation", "std")):
            figures = {c: each[c].agg(by) for c in ("auc", "accuracy")}
            frame = pd.concat([frame, pd.DataFrame([{"fold": name} | figures])], ignore_index=True)
    return frame.astype({"n": "Int64", "n_patients": "Int64"})


def _of_fold(p: Predicted, name: str) -> dict[str, object]:
    accuracy = float(p.is_right.mean()) if len(p) else float("nan")
    counts = {"fold": name, "n": len(p), "n_patients": len(set(p.patients))}
    return {
        **counts,
        "auc": slide_auc(p.probability, p.labels) if len(p) else float("nan"),
        "accuracy": accuracy,
    }


def mistake_table(predicted: Predicted) -> pd.DataFrame:
    """Return the rows that were called wrong, those first that the model was surest of.

    Columns: id, patient, label, prediction, given (the probability that it gave to what is true, the least of
    the classes where they do not exclude each other).
    """
    p = predicted
    given = np.where(p.truth, p.probability, 1 - p.probability)
    least = np.where(p.truth, p.probability, 1).min(axis=1) if p.is_exclusive else given.min(axis=1)
    wrong = np.flatnonzero(~p.is_right)
    rows = wrong[np.argsort(least[wrong], kind="stable")]
    told = {"id": p.ids[rows], "patient": p.patients[rows]}
    told |= {"label": _names(p, p.truth[rows]), "prediction": _names(p, p.called[rows])}
    return pd.DataFrame(told | {"given": least[rows]})


def _names(p: Predicted, of: np.ndarray) -> list[str]:
    return [";".join(name for name, there in zip(p.names, row, strict=True) if there) for row in of]
