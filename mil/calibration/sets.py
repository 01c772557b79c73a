"""Sets of classes that hold the true one at a chosen level: split conformal prediction."""

from dataclasses import dataclass

import numpy as np

from .lines import exact_probability, margins_of


@dataclass(frozen=True)
class ClassSets:
    """A class is in a slide's set unless it is less probable than held-out slides of it ever were.

    `least` has the smallest uncalibrated probability that keeps each class in the set, 0 where too few
    slides were held out to leave it out; `by_class` says whether the level holds within each class. It
    does where classes do not exclude each other: a slide's set then may have to hold several.
    """

    level: float
    least: tuple[float, ...]
    by_class: bool
    is_exclusive: bool = True

    @classmethod
    def of(cls, margins: np.ndarray, labels: np.ndarray, level: float) -> "ClassSets":
        """Return the sets of split conformal prediction (Vovk et al. 2005; by class: Vovk 2012).

        `margins` of held-out bags (`margins_of`), before calibration: it was fitted on these very bags,
        and the level holds for scores that were not. `labels` are int (B,), or bool (B, C) where classes
        do not exclude each other. By class where every class has bags enough.
        """
        is_exclusive = labels.ndim == 1
        probability = exact_probability(margins, is_exclusive=is_exclusive)
        n_classes = probability.shape[1]
        truth = labels[:, None] == np.arange(n_classes) if is_exclusive else labels
        of_class = [probability[truth[:, c], c] for c in range(n_classes)]
        by_class = not is_exclusive or all(_rank(len(each), level) > 0 for each in of_class)
        least = [_least(each, level) for each in of_class]
        if not by_class:
            least = [_least(probability[truth], level)] * n_classes
        return cls(level, tuple(least), by_class, is_exclusive)

    def of_slide(self, probability: np.ndarray) -> tuple[int, ...]:
        """Return the classes that one slide may have, by its uncalibrated `probability` (C,)."""
        margins = margins_of(probability[None], is_exclusive=self.is_exclusive)
        again = exact_probability(margins, is_exclusive=self.is_exclusive)[0]
        return tuple(np.flatnonzero(again >= np.array(self.least)).tolist())


def _rank(n_bags: int, level: float) -> int:
    """Which of the ascending probabilities is the least one, counted from 1; 0 if there are too few."""
    return n_bags + 1 - int(np.ceil((n_bags + 1) * level - 1e-9))


def _least(own: np.ndarray, level: float) -> float:
    rank = _rank(len(own), level)
    return float(np.sort(own)[rank - 1]) if rank else 0.0
