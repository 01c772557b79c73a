"""The figures of one encoder, with intervals by group, as rows of a frame."""

from collections.abc import Mapping
from dataclasses import dataclass

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

    @property
    def rarest(self) -> int:
        """How many tiles the rarest class has."""
        return int(np.bincount(self.labels).min())


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
    rows = _predicted(KNN, knn(vectors, known.labels, folds, k), known)
    rows += _predicted(LINEAR, probability, known)
    for n in shots_of(known, folds):
        called = few_shot(vectors, known.labels, folds, n, n_draws=N_DRAWS, seed=config.seed)
        rows.append((few_shot_name(n), "balanced_accuracy", *_drawn(called, known), 1 / len(known.classes)))
    around = look_around(
        vectors, known.labels, known.groups, known.batches, min(config.neighbours, known.rarest)
    )
    rows += _around(around, known.groups)
    told = {"k": int(k), "k_neighbours": around.k, "linear_C": strengths}
    return pd.DataFrame(rows, columns=COLUMNS), told


def few_shot_name(n: int) -> str:
    """Return what the few-shot method of `n` tiles a class is called."""
    return f"few_shot_{n}"


Row = tuple[str, str, float, float, float, float]


def _predicted(method: str, probability: np.ndarray, known: Known) -> list[Row]:
    names, ids = known.classes, np.arange(len(probability)).astype(str)
    one_hot = np.eye(len(names), dtype=bool)
    predicted = Predicted(
        names=names, ids=ids, patients=known.groups, truth=one_hot[known.labels], probability=probability,
        uncalibrated=probability, called=one_hot[probability.argmax(axis=1)], folds=ids,
    )  # fmt: skip
    told = headline_table(predicted).set_index("figure")
    chances = {"balanced accuracy": 1 / len(names), "AUC": 0.5}
    return [
        (
            method,
            figure.lower().replace(" ", "_"),
            *told.loc[figure, ["value", "low", "high"]].astype(float),
            c,
        )
        for figure, c in chances.items()
    ]


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
    rows = [
        (NEAR, name, float(around.shares[name].mean()), *_interval(around.shares[name], groups),
         float(around.chance[name].mean()))
        for name in ("same_class", "same_batch") if name in around.shares
    ]  # fmt: skip
    if "same_batch" in around.shares:
        one = np.ones((1, len(groups)))
        value, chance = (float(_robustness(each, one)[0]) for each in (around.shares, around.chance))
        samples = bootstrap(lambda weights: _robustness(around.shares, weights), groups)
        rows.append((NEAR, "robustness", value, *of_samples(samples), chance))
    return rows


def _interval(values: np.ndarray, groups: np.ndarray) -> Interval:
    return of_samples(bootstrap(lambda weights: weights @ values / weights.sum(axis=1), groups))


def _robustness(told: Mapping[str, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Of the neighbours that share either the class or the batch, the share that shares the class."""
    of_class, of_batch = (weights @ told[name] for name in ("class_alone", "batch_alone"))
    either = of_class + of_batch
    return np.divide(of_class, either, out=np.full(len(either), np.nan), where=either > 1e-9)
