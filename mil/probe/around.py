"""What is near a tile: tiles of its class, or of its batch, which may be a site, a scanner or a stain."""

from dataclasses import dataclass

import numpy as np

from features import nearest_rows

from .methods import standardised


@dataclass(frozen=True)
class Around:
    """Shares of each tile's nearest tiles of other groups, float64 (N,), and what chance gives for each.

    `same_class`; where batches are known `same_batch`, `class_alone` (its class, another batch) and
    `batch_alone` (its batch, another class), else those are empty. Chance is the share in all tiles of
    other groups.
    """

    shares: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]
    k: int


def look_around(
    vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, batches: np.ndarray | None, k: int
) -> Around:
    """Return what is near each tile by cosine, features standardised; `vectors` (N, D), the rest int (N,).

    At most `k` tiles, and no more than any tile's class has in other groups: all of them could be of it.
    """
    of_class_elsewhere = _alike(labels) - _alike(_pairs(labels, groups))
    k = min(k, int(of_class_elsewhere.min()))
    vectors, _ = standardised(vectors, vectors)
    near, _ = nearest_rows(vectors, vectors, k, apart=(groups, groups))
    is_there = near >= 0
    n_there = is_there.sum(axis=1)

    def share(is_so: np.ndarray) -> np.ndarray:
        return (is_so & is_there).sum(axis=1) / n_there

    of_class = labels[near] == labels[:, None]
    shares, chance = {"same_class": share(of_class)}, {"same_class": _share_of_others(labels, groups)}
    if batches is not None:
        of_batch = batches[near] == batches[:, None]
        shares |= {
            "same_batch": share(of_batch),
            "class_alone": share(of_class & ~of_batch), "batch_alone": share(of_batch & ~of_class),
        }  # fmt: skip
        both = _share_of_others(_pairs(labels, batches), groups)
        chance["same_batch"] = _share_of_others(batches, groups)
        chance["class_alone"] = chance["same_class"] - both
        chance["batch_alone"] = chance["same_batch"] - both
    return Around(shares, chance, k)


def _share_of_others(codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Of the tiles of other groups the share that has a tile's own code, (N,)."""
    return (_alike(codes) - _alike(_pairs(codes, groups))) / (len(codes) - _alike(groups))


def _pairs(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A code for each pair of codes, (N,)."""
    return codes.astype(np.int64) * (others.max() + 1) + others


def _alike(codes: np.ndarray) -> np.ndarray:
    """How many have the same code as each, (N,)."""
    _, of_row, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return counts[of_row]
