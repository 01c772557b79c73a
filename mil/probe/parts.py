"""Parts of the tiles such that no group is in two of them."""

import numpy as np

from tiling import ConfigError

_TRIES = 10

Fold = tuple[np.ndarray, np.ndarray]  # rows to learn from, rows to predict


def group_folds(
    labels: np.ndarray, groups: np.ndarray, n_folds: int, *, seed: int, least_groups: int = 1
) -> list[Fold]:
    """Return `n_folds` pairs of rows, to learn from and to predict; each row is predicted once.

    No group is on both sides of a pair. `labels` and `groups` int (N,), labels 0 to C - 1. Classes are spread
    evenly, and at least `least_groups` groups of each are on the side to learn from; there are fewer folds
    where groups are too few for that.

    Raises:
        ConfigError: two folds cannot be made so.
    """
    held = _groups_of_classes(labels, groups)
    for n in range(min(n_folds, int(held.min())), 1, -1):
        for attempt in range(_TRIES):
            folds = _parted(labels, groups, n, seed + attempt)
            if all(_are_enough(labels[rows], groups[rows], len(held), least_groups) for rows, _ in folds):
                return folds
    raise ConfigError(
        f"tiles of {len(np.unique(groups))} groups, {held.min()} in the rarest class, cannot be parted",
        hint=f"give {least_groups + 1} groups or more of each class, none of them with most of the tiles",
    )


def _groups_of_classes(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """In how many groups each class is, (C,)."""
    pairs = np.unique(np.stack([labels, groups]), axis=1)
    return np.bincount(pairs[0])


def _are_enough(labels: np.ndarray, groups: np.ndarray, n_classes: int, least: int) -> bool:
    held = _groups_of_classes(labels, groups)
    return len(held) == n_classes and held.min() >= least


def _parted(labels: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> list[Fold]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    if len(np.unique(groups)) == len(groups):  # the same, in a fraction of the time
        splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        return list(splitter.split(labels[:, None], labels))
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    return list(splitter.split(labels[:, None], labels, groups))
