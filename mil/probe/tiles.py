"""The tiles of a probe: whole pictures with labels, enough of them, parted by groups."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features import CheckedTiles, EncoderCard, TileFolder
from mil.progress import progress
from tiling import ConfigError

from .config import LEAST_GROUPS, LEAST_TILES, SHOTS, ProbeConfig
from .figures import Known, shots_of
from .parts import Fold, group_folds

_MOST_NAMED = 5  # broken pictures in a warning; all are in the record
_ENLARGED = 1.05


@dataclass(frozen=True)
class ProbeTiles:
    """Whole pictures, what is known of them as numbers, the folds, and what a reader has to be warned of."""

    checked: CheckedTiles
    known: Known
    folds: list[Fold]
    batch_names: tuple[str, ...]
    has_groups: bool
    n_unlabelled: int
    warnings: tuple[str, ...]

    def told(self) -> dict[str, object]:
        """Return what the record says of the tiles."""
        per_class = np.bincount(self.known.labels).tolist()
        per_batch = [] if self.known.batches is None else np.bincount(self.known.batches).tolist()
        return {
            "n_tiles": len(self.known.labels),
            "classes": dict(zip(self.known.classes, per_class, strict=True)),
            "n_groups": int(self.known.groups.max()) + 1,
            "groups": "of the table" if self.has_groups else "each picture its own",
            "batches": dict(zip(self.batch_names, per_batch, strict=True)),
            "n_folds": len(self.folds),
            "n_unlabelled": self.n_unlabelled,
            "broken": self.checked.broken,
        }

    def seen_mpp(self, side_px: int, mpp: float | None) -> float | None:
        """Return the µm/px at which most pictures, of `mpp`, are seen at `side_px`."""
        return None if mpp is None else mpp * self.checked.side_px / side_px

    def misfits(self, name: str, card: EncoderCard, side_px: int, mpp: float | None) -> list[str]:
        """Return what is to be told of how an encoder sees the pictures."""
        found, seen = [], self.seen_mpp(side_px, mpp)
        if side_px > self.checked.side_px * _ENLARGED:
            found.append(f"{name} sees pictures of {self.checked.side_px} px enlarged to {side_px} px")
        if card.mpp is not None and seen is None:
            found.append(f"{name} was trained at {card.mpp:g} µm/px; say by --mpp what the pictures have")
        if seen is not None and not card.is_trained_at(seen):
            found.append(f"{name} sees the pictures at {seen:.3g} µm/px, it was trained at {card.mpp:g}")
        return found


def load_tiles(tiles: TileFolder, config: ProbeConfig) -> ProbeTiles:
    """Read all pictures that have a label, and part them.

    Raises:
        ConfigError: there are too few classes, tiles of a class, or groups.
    """
    labelled = [row for row, label in enumerate(tiles.labels) if label]
    _demand(Counter(tiles.labels[row] for row in labelled), {}, "")
    with progress("read", len(labelled), unit="tiles") as advance:
        checked = tiles.of(labelled).checked(lambda: advance(""))
    whole, has_groups = checked.tiles, any(tiles.groups)
    # of two copies of one picture, neither may be learned from where the other is predicted
    groups = whole.groups if has_groups else checked.digests
    held = defaultdict(set)
    for label, group in zip(whole.labels, groups, strict=True):
        held[label].add(group)
    without = f" without the {len(checked.broken)} broken ones" if checked.broken else ""
    _demand(Counter(whole.labels), held if has_groups else {}, without)
    classes, labels = _numbered(whole.labels)
    batch_names, batches = _numbered(whole.batches)
    known = Known(classes, labels, _numbered(groups)[1], batches if len(batch_names) > 1 else None)
    # two groups of each class or more are learned from, so that these can be parted once more
    folds = group_folds(labels, known.groups, config.folds, seed=config.seed, least_groups=LEAST_GROUPS - 1)
    n_unlabelled = len(tiles) - len(labelled)
    warnings = _warnings(checked, batch_names, n_unlabelled)
    if len(folds) != config.folds:
        more = "more" if len(folds) < config.folds else "fewer"
        warnings.append(f"{len(folds)} folds, not {config.folds}: a class has too few groups for {more}")
    if left_out := sorted(set(SHOTS) - set(shots_of(known, folds))):
        told = ", ".join(map(str, left_out))
        warnings.append(f"no few-shot figure of {told} tiles a class: the rarest class has too few")
    shown = batch_names if known.batches is not None else ()
    return ProbeTiles(checked, known, folds, shown, has_groups, n_unlabelled, tuple(warnings))


def _demand(n_tiles: Counter, groups: dict[str, set], without: str) -> None:
    if len(n_tiles) < 2:
        raise ConfigError(
            f"{_counted(len(n_tiles), 'class', 'es')} of tiles{without}, 2 or more are wanted",
            hint="give a folder with a subfolder for each class, or a CSV with columns file and label",
        )
    for name, n in sorted(n_tiles.items()):
        if n < LEAST_TILES:
            raise ConfigError(
                f"class {name!r} has {_counted(n, 'tile')}{without}, {LEAST_TILES} or more are wanted",
                hint="give more, or leave the class out",
            )
        if name in groups and len(groups[name]) < LEAST_GROUPS:
            in_groups = _counted(len(groups[name]), "group")
            raise ConfigError(
                f"class {name!r} is in {in_groups}{without}, {LEAST_GROUPS} or more are wanted",
                hint="give tiles of more patients or sources, or leave the class out",
            )


def _counted(n: int, noun: str, ending: str = "s") -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{ending}"


def _numbered(values: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    names, numbers = np.unique(np.array(values, str), return_inverse=True)
    return tuple(names.tolist()), numbers


def _warnings(checked: CheckedTiles, batch_names: tuple[str, ...], n_unlabelled: int) -> list[str]:
    found = []
    if checked.broken:
        named = [f"{name} ({why})" for name, why in list(checked.broken.items())[:_MOST_NAMED]]
        more = f" and {len(checked.broken) - _MOST_NAMED} more" if len(checked.broken) > _MOST_NAMED else ""
        found.append(f"left out {_counted(len(checked.broken), 'broken picture')}: {', '.join(named)}{more}")
    if n_unlabelled:
        found.append(f"left out {_counted(n_unlabelled, 'picture')} without a label")
    if not any(checked.tiles.groups):
        found.append(
            "each picture is its own group: tiles of one patient or slide in both parts flatter all figures; "
            "say who is whose in a table with a column patient"
        )
    elif n_copies := _n_copies(checked):
        found.append(f"{n_copies} pictures are copies of ones in another group, which flatters all figures")
    if len(batch_names) == 1 and batch_names[0]:
        found.append(f"all tiles are of one batch, {batch_names[0]}: nothing can be said of its effect")
    return found


def _n_copies(checked: CheckedTiles) -> int:
    """How many pictures are there, byte for byte, in another group too."""
    held = defaultdict(set)
    for digest, group in zip(checked.digests, checked.tiles.groups, strict=True):
        held[digest].add(group)
    return sum(len(held[digest]) > 1 for digest in checked.digests)
