"""The classes of slides and tiles, and labels: of one class, or of several that do not exclude each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tiling import ConfigError, SlidebagError

SEPARATOR = ";"  # between the classes of one slide in a table
SET_MARK = "|"  # between the classes of a set, and the slides of a patient, in what is written
_BACKGROUND = "background"  # of tiles, where no class is negative

# a class each, or of each class whether it is there, as scikit-learn tells the two kinds apart
Labels = Sequence[int] | Sequence[Sequence[bool]]


@dataclass(frozen=True)
class Classes:
    """The classes a slide can have; `names[0]` is the negative one if there is one.

    `is_exclusive` says that a slide is of one class; else it may be of several, though not of the
    negative one and another.
    """

    names: tuple[str, ...]
    has_negative: bool
    is_exclusive: bool = True

    def __post_init__(self) -> None:
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise ConfigError(f"classes are {list(self.names)}", hint="give two or more different names")
        for name in self.names:
            if SEPARATOR in name or SET_MARK in name:
                raise ConfigError(
                    f"class {name!r} has a {SEPARATOR!r} or {SET_MARK!r}, which stands between classes",
                    hint="call it by another name in the table",
                )
        if not self.has_negative and _BACKGROUND in self.names:
            raise ConfigError(
                f"a class is called {_BACKGROUND!r}, as tiles of no class are where none is negative",
                hint="call it by another name in the table, or name the negative class",
            )

    @property
    def tile_names(self) -> tuple[str, ...]:
        """Return the classes a tile can have: the first is negative, or background in subtyping."""
        return self.names if self.has_negative else (_BACKGROUND, *self.names)

    @property
    def n_positive(self) -> int:
        """Return how many classes a tile can show evidence of, which is one margin each."""
        return len(self.tile_names) - 1

    @property
    def decided_alone(self) -> range:
        """Return the classes with a threshold of their own; without any, the likeliest is called."""
        is_alone = not self.is_exclusive or (self.has_negative and len(self.names) == 2)
        return range(int(self.has_negative), len(self.names)) if is_alone else range(0)

    def labels_of(self, texts: Sequence[str]) -> np.ndarray:
        """Return labels as a table gives them as int (B,), or bool (B, C) where they are not exclusive."""
        if self.is_exclusive:
            return np.array([self.names.index(text) for text in texts], int)
        found = [names_in(text) for text in texts]
        return np.array([[name in names for name in self.names] for names in found], bool).reshape(
            len(texts), len(self.names)
        )


def names_in(label: str) -> tuple[str, ...]:
    """Return the classes that a label such as "tumour;necrosis" names, each once."""
    return tuple(dict.fromkeys(name for part in label.split(SEPARATOR) if (name := part.strip())))


def members(found: Iterable[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    """Return whether each row, the classes that it names, holds each of `names`: bool (B, C)."""
    rows = list(found)
    told = [[name in row for name in names] for row in rows]
    return np.array(told, bool).reshape(len(rows), len(names))


def multi_hot(labels: Labels | np.ndarray, classes: Classes) -> np.ndarray:
    """Return of which classes each bag is, bool (B, C).

    Raises:
        SlidebagError: a label is none of the classes, or not of the kind that `classes` wants.
    """
    told, n_classes = np.asarray(labels), len(classes.names)
    if not classes.is_exclusive:
        if told.ndim != 2 or told.shape[1] != n_classes or told.dtype != bool:
            raise SlidebagError(
                f"labels are {told.dtype} of shape {told.shape}, wanted bool of ({len(told)}, {n_classes})",
                hint="these classes do not exclude each other: say of each whether the bag is of it",
            )
        return told
    strange = sorted({int(label) for label in told.ravel() if not 0 <= label < n_classes})
    if told.ndim != 1 or strange:
        raise SlidebagError(
            f"labels {strange or told.shape} are outside 0 to {n_classes - 1}",
            hint="index into classes.names",
        )
    return told[:, None] == np.arange(n_classes)


def check_labels(truth: np.ndarray, classes: Classes) -> None:
    """Raise SlidebagError unless there is something to learn from bags of the classes `truth` (B, C)."""
    names, n_bags = classes.names, truth.sum(axis=0)
    present = [name for name, n in zip(names, n_bags, strict=True) if n]
    if len(present) < 2:
        raise SlidebagError(
            f"the training bags are of {len(present)} class ({', '.join(present)}), wanted 2 or more",
            hint="add slides of another class",
        )
    if classes.has_negative and not n_bags[0]:
        raise SlidebagError(
            f"no training bag is {names[0]!r}, the negative class",
            hint="add negative slides, or say that there is no negative class",
        )
    if not truth.any(axis=1).all() or (classes.has_negative and truth[truth[:, 0], 1:].any()):
        raise SlidebagError(
            "a bag is of no class, or of the negative one and another", hint="label it as one or the other"
        )
    everywhere = [name for name, n in zip(names, n_bags, strict=True) if n == len(truth)]
    if everywhere:
        raise SlidebagError(
            f"every training bag is of class {everywhere[0]!r}, so nothing tells what that is",
            hint="add slides that are not, or leave that class out of the labels",
        )


def check_candidates(bag_id: str, candidates: np.ndarray, is_of: np.ndarray, classes: Classes) -> None:
    """Raise SlidebagError unless `candidates` bool (N, T) leave each instance a class of the bag's label.

    `is_of` bool (C,) are the classes of the bag.
    """
    names, allowed = classes.tile_names, np.append(True, is_of[int(classes.has_negative) :])
    if candidates.shape[1] != len(names):
        raise SlidebagError(
            f"{bag_id}: candidates are of {candidates.shape[1]} classes, wanted {len(names)}",
            hint=f"give a column for each of {', '.join(names)}",
        )
    strange = ~(candidates & allowed).any(axis=1)
    if strange.any():
        found = " or ".join(names[c] for c in np.flatnonzero(candidates[strange].any(axis=0)))
        told = ", ".join(name for name, there in zip(classes.names, is_of, strict=True) if there)
        raise SlidebagError(
            f"{bag_id}: {int(strange.sum())} tiles are annotated as {found}, but its label is {told}",
            hint="correct the label or the annotation",
        )
