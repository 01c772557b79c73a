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
    evenly, and at least `least_groups` groups of each are on the side to learn from; there are fewer or more
    folds where groups are too few for that.

    Raises:
        ConfigError: a class is in no more than `least_groups` groups.
    """
    held, n_groups = _groups_of_classes(labels, groups), len(np.unique(groups))
    if held.min() <= least_groups:
        raise ConfigError(
            f"tiles of {n_groups} groups, {held.min()} in the rarest class, cannot be parted",
            hint=f"give {least_groups + 1} groups or more of each class",
        )
    for n in range(min(n_folds, int(held.min())), 1, -1):
        for attempt in range(_TRIES):
            folds = _parted(labels, groups, n, seed + attempt)
            if all(_are_enough(labels[rows], groups[rows], len(held), least_groups) for rows, _ in folds):
                return folds
    # the more parts the more do fit, at the latest where each group is its own
    dealt = (
        _dealt(labels, groups, n, held - least_groups)
        for n in range(min(n_folds, int(held.min())), n_groups + 1)
    )
    return next(folds for folds in dealt if folds)


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


def _dealt(labels: np.ndarray, groups: np.ndarray, n_folds: int, most: np.ndarray) -> list[Fold]:
    """Folds that hold `most` (C,) groups of each class or fewer; none where that is not found.

    Groups of many and rare classes are dealt out first, then large ones, each to the emptiest part it fits.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    tiles = np.zeros((len(names), len(most)))
    np.add.at(tiles, (group_of, labels), 1)
    shares, has = tiles / tiles.sum(axis=0), tiles > 0
    rarity = (has / most).sum(axis=1)
    part_of = np.zeros(len(names), np.int64)
    full, n_groups = np.zeros((n_folds, len(most))), np.zeros((n_folds, len(most)), np.int64)
    for group in np.lexsort((-shares.max(axis=1), -rarity)):
        fits = (n_groups + has[group] <= most).all(axis=1)
        if not fits.any():
            return []
        fullness = np.square(full + shares[group]).sum(axis=1)
        part = part_of[group] = np.where(fits, fullness, np.inf).argmin()
        full[part] += shares[group]
        n_groups[part] += has[group]
    is_held = part_of[group_of] == np.arange(n_folds)[:, None]
    return [(np.flatnonzero(~own), np.flatnonzero(own)) for own in is_held]
