"""What is learned from vectors of tiles: each method predicts each tile by tiles of other groups.

All of them standardise each feature on what is learned from, so that none is heard because of its unit.
"""

import warnings
from collections.abc import Iterator

import numpy as np

from features import nearest_rows, unit, vote_of_near

from .parts import Fold, group_folds

_STRENGTHS = tuple(10.0**power for power in range(-5, 3))  # C of the logistic regression, weak ones last
_INNER_FOLDS = 3


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both with mean 0 and deviation 1 in each feature of `train` (n, D), 0 where it is constant."""
    mean, spread = train.mean(axis=0), train.std(axis=0)
    scale = np.where(spread > 1e-6 * np.abs(mean).clip(1e-6), spread, np.inf)
    return (train - mean) / scale, (test - mean) / scale


def knn(vectors: np.ndarray, labels: np.ndarray, folds: list[Fold], k: int) -> np.ndarray:
    """Return the probability of each class for each tile, (N, C), that its nearest tiles by cosine vote for.

    `vectors` (N, D), `labels` int (N,).
    """
    found = np.zeros((len(labels), labels.max() + 1))
    for learned, held in folds:
        train, test = standardised(vectors[learned], vectors[held])
        near, similarity = nearest_rows(test, train, k)
        found[held] = vote_of_near(near, similarity, labels[learned], found.shape[1])
    return found


def linear(
    vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: list[Fold], seed: int
) -> tuple[np.ndarray, list[float]]:
    """Return the probability (N, C) of a logistic regression, and its strength C in each fold.

    Classes weigh the same. C is chosen on what is learned from, by the log loss of parts that hold other
    groups.
    """
    found, strengths = np.zeros((len(labels), labels.max() + 1)), []
    for learned, held in folds:
        own, truth = vectors[learned], labels[learned]
        inner = group_folds(truth, groups[learned], _INNER_FOLDS, seed=seed)
        strengths.append(_chosen(own, truth, inner))
        train, test = standardised(own, vectors[held])
        found[held] = _fitted(_regression(), strengths[-1], train, truth).predict_proba(test)
    return found, strengths


def _chosen(vectors: np.ndarray, labels: np.ndarray, folds: list[Fold]) -> float:
    """The strength of the least loss: weaker ones are tried until it rises, from where the last one ended."""
    parts = [(*standardised(vectors[a], vectors[b]), labels[a], labels[b]) for a, b in folds]
    models = [_regression() for _ in parts]
    best, least = _STRENGTHS[0], np.inf
    for strength in _STRENGTHS:
        losses = [
            _log_loss(_fitted(model, strength, train, truth).predict_proba(test), wanted)
            for model, (train, test, truth, wanted) in zip(models, parts, strict=True)
        ]
        if np.mean(losses) >= least:
            break
        best, least = strength, float(np.mean(losses))
    return best


def _regression():
    from sklearn.linear_model import LogisticRegression  # slow to import

    return LogisticRegression(class_weight="balanced", warm_start=True, max_iter=1000)


def _fitted(model, strength: float, vectors: np.ndarray, labels: np.ndarray):
    with warnings.catch_warnings():
        # where it stopped before its end it is judged, and chosen or not, like any other
        from sklearn.exceptions import ConvergenceWarning  # slow to import

        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.set_params(C=strength).fit(vectors, labels)


def _log_loss(probability: np.ndarray, labels: np.ndarray) -> float:
    """The log loss where classes weigh the same."""
    loss = -np.log(probability[np.arange(len(labels)), labels].clip(1e-12))
    return float(np.mean([loss[labels == c].mean() for c in np.unique(labels)]))


def few_shot(
    vectors: np.ndarray, labels: np.ndarray, folds: list[Fold], n_shots: int, *, n_draws: int, seed: int
) -> np.ndarray:
    """Return what each tile is called, int (n_draws, N), by `n_shots` tiles a class drawn in each fold.

    By the nearest of the classes' means of vectors of length 1 (SimpleShot, arXiv 1911.04623).
    """
    called = np.zeros((n_draws, len(labels)), np.int64)
    rng = np.random.default_rng([seed, n_shots])
    for learned, held in folds:
        train, test = map(unit, standardised(vectors[learned], vectors[held]))
        for draw in range(n_draws):
            means = np.stack([train[rows].mean(axis=0) for rows in _drawn(labels[learned], n_shots, rng)])
            # of |t - m|², what does not depend on the class left out
            called[draw, held] = (2 * test @ means.T - np.square(means).sum(axis=1)).argmax(axis=1)
    return called


def _drawn(labels: np.ndarray, n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for c in range(labels.max() + 1):
        yield rng.choice(np.flatnonzero(labels == c), n, replace=False)
