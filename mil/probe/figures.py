"""The figures of one encoder, with intervals by group, as rows of a frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from mil.report import Predicted, headline_table
from mil.report.intervals import Interval, bootstrap, of_samples

from .around import Around, look_around
from .config import N_DRAWS, SHOTS, ProbeConfig
from .methods import few_shot, knn, linear
from .parts import Fold

COLUMNS = ["method", "figure", "value", "low", "high", "chance"]
KNN, LINEAR, NEAR = "knn", "linear", "neighbours"


@dataclass(frozen=True)
class Known:
    """What is known of N tiles, as numbers int (N,): class, group, and batch where several are known."""

    classes: tuple[str, ...]
    labels: np.ndarray
    groups: np.ndarray
    batches: np.ndarray | None


def shots_of(known: Known, folds: list[Fold]) -> list[int]:
    """Return the numbers of tiles a class that can be drawn in every fold."""
    fewest = min(np.bincount(known.labels[learned]).min() for learned, _ in folds)
    return [n for n in SHOTS if n <= fewest]


def figures_of(
    vectors: np.ndarray, known: Known, folds: list[Fold], config: ProbeConfig
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Return the figures of vectors (N, D), columns `COLUMNS`, and what was chosen on the way.

    `low` and `high` are of 95 %; NaN is what is not defined.
    """
    k = min(config.neighbours, *(np.bincount(known.labels[learned]).min() for learned, _ in folds))
    probability, strengths = linear(vectors, known.labels, known.groups, folds, config.seed)
    rows = _predicted(KNN, knn(vectors, known.labels, folds, k), known, len(folds))
    rows += _predicted(LINEAR, probability, known, len(folds))
    for n in shots_of(known, folds):
        called = few_shot(vectors, known.labels, folds, n, n_draws=N_DRAWS, seed=config.seed)
        rows.append((few_shot_name(n), "balanced_accuracy", *_drawn(called, known), 1 / len(known.classes)))
    around = look_around(vectors, known.labels, known.groups, known.batches, config.neighbours)
    rows += _around(around, known.groups)
    told = {"k": int(k), "k_neighbours": around.k, "linear_C": strengths}
    return pd.DataFrame(rows, columns=COLUMNS), told


def few_shot_name(n: int) -> str:
    """Return what the few-shot method of `n` tiles a class is called."""
    return f"few_shot_{n}"


Row = tuple[str, str, float, float, float, float]


def _predicted(method: str, probability: np.ndarray, known: Known, n_folds: int) -> list[Row]:
    names, ids = known.classes, np.arange(len(probability)).astype(str)
    one_hot = np.eye(len(names), dtype=bool)
    predicted = Predicted(
        names=names, ids=ids, patients=known.groups, truth=one_hot[known.labels], probability=probability,
        uncalibrated=probability, called=one_hot[probability.argmax(axis=1)], folds=ids,
    )  # fmt: skip
    told = headline_table(predicted).set_index("figure")
    chances = {"balanced accuracy": 1 / len(names), "AUC": 0.5}
    rows = []
    for figure, chance in chances.items():
        value, low, high = told.loc[figure, ["value", "low", "high"]].astype(float)
        name = figure.lower().replace(" ", "_")
        rows.append((method, name, value, *_widened(value, (low, high), n_folds), chance))
    return rows


def _widened(value: float, of_predicted: Interval, n_parts: int) -> Interval:
    """An interval that counts those who taught too; resampling counts only those who were predicted.

    Parts share their teachers, so that the spread between them tells too little: the variance is corrected as
    Nadeau and Bengio (2003) do, by the number of parts over that of those which teach.
    """
    by = np.sqrt(1 + n_parts / (n_parts - 1))
    low, high = np.clip(value + by * (np.array(of_predicted) - value), 0, 1)
    return float(low), float(high)


def _drawn(called: np.ndarray, known: Known) -> tuple[float, float, float]:
    """The balanced accuracy of what was `called` (draws, N): the mean, and what any one draw may give."""
    right = called == known.labels

    def balanced(weights: np.ndarray) -> np.ndarray:
        each = []
        for c in range(len(known.classes)):
            own = weights[:, known.labels == c]
            total = own.sum(axis=1, keepdims=True)
            hits = own @ right[:, known.labels == c].T.astype(np.float64)
            each.append(np.divide(hits, total, out=np.full(hits.shape, np.nan), where=total > 0))
        return np.mean(each, axis=0)

    value = float(balanced(np.ones((1, len(known.labels)))).mean())
    return value, *of_samples(bootstrap(balanced, known.groups).ravel())


def _around(around: Around, groups: np.ndarray) -> list[Row]:
    """Figures of what is near; each group is a part, and what is near it lies in the others."""
    n_groups, one = len(np.unique(groups)), np.ones((1, len(groups)))
    figures = {
        "same_class": lambda told, weights: _mean(told["same_class"], weights),
        "same_batch": lambda told, weights: _mean(told["same_batch"], weights),
        "robustness": _robustness,
    }
    rows = []
    for name in figures if "same_batch" in around.shares else ["same_class"]:
        value, chance = (float(figures[name](told, one)[0]) for told in (around.shares, around.chance))
        samples = bootstrap(partial(figures[name], around.shares), groups)
        rows.append((NEAR, name, value, *_widened(value, of_samples(samples), n_groups), chance))
    return rows


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(axis=1)


def _robustness(told: Mapping[str, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Of the neighbours that share either the class or the batch, the share that shares the class."""
    of_class, of_batch = (weights @ told[name] for name in ("class_alone", "batch_alone"))
    either = of_class + of_batch
    return np.divide(of_class, either, out=np.full(len(either), np.nan), where=either > 1e-9)
