"""Which vectors are nearest to others by cosine, all compared, and what their classes vote for."""

import numpy as np

from .search_bags import unit

TEMPERATURE = 0.07  # of a vote: exp(cosine / 0.07), as DINO's authors have it (arXiv 2104.14294)
_AT_A_TIME = 8_000_000  # similarities in memory


def nearest_rows(
    queries: np.ndarray, vectors: np.ndarray, k: int, *, apart: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest rows of `vectors` (N, D) to each of `queries` (n, D), nearest first.

    Places int64 (n, k) and cosines float32 (n, k). `apart` gives the group of each query (n,) and of each
    vector (N,): those of one group are not each other's neighbours. Where there are fewer than k others,
    places are -1 and cosines -inf.
    """
    queries, vectors = unit(queries), unit(vectors)
    k = min(k, len(vectors))
    near, similarity = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    n_rows = max(1, _AT_A_TIME // max(1, len(vectors)))
    for start in range(0, len(queries), n_rows):
        here = slice(start, start + n_rows)
        cosine = queries[here] @ vectors.T
        if apart is not None:
            cosine[apart[0][here, None] == apart[1][None]] = -np.inf
        some = np.sort(np.argpartition(-cosine, k - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(-np.take_along_axis(cosine, some, axis=1), axis=1, kind="stable")
        near[here] = np.take_along_axis(some, order, axis=1)
        similarity[here] = np.take_along_axis(cosine, near[here], axis=1)
    near[np.isneginf(similarity)] = -1
    return near, similarity


def vote_of_near(near: np.ndarray, similarity: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the probability of each class, float64 (n, C), that the neighbours of `nearest_rows` vote for.

    `labels` int (N,) are those of the vectors. A vote weighs exp(cosine / 0.07).
    """
    weight = np.exp((similarity - similarity[:, :1]) / TEMPERATURE).astype(np.float64)
    is_of = labels[near][:, :, None] == np.arange(n_classes)
    votes = (weight[:, :, None] * is_of).sum(axis=1)
    return votes / votes.sum(axis=1, keepdims=True)
