"""Sets of classes that hold the true one at a chosen level: split conformal prediction."""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax


@dataclass(frozen=True)
class ClassSets:
    """A class is in a slide's set unless it is less probable than held-out slides of it ever were.

    `least` has the smallest uncalibrated probability that keeps each class in the set, 0 where too few
    slides were held out to leave it out; `by_class` says whether the level holds within each class.
    """

    level: float
    least: tuple[float, ...]
    by_class: bool

    @classmethod
    def of(cls, margins: np.ndarray, labels: np.ndarray, level: float) -> "ClassSets":
        """Return the sets of split conformal prediction (Vovk et al. 2005; by class: Vovk 2012).

        `margins` (B, C - 1) of held-out bags, before calibration: it was fitted on these very bags, and
        the level holds for scores that were not. By class where every class has bags enough.
        """
        n_classes = margins.shape[1] + 1
        probability = softmax(np.pad(margins, ((0, 0), (1, 0))), axis=1)
        own = probability[np.arange(len(labels)), labels]
        of_class = [own[labels == c] for c in range(n_classes)]
        by_class = all(_rank(len(each), level) > 0 for each in of_class)
        least = [_least(each, level) for each in of_class] if by_class else [_least(own, level)] * n_classes
        return cls(level, tuple(least), by_class)

    def of_slide(self, probability: np.ndarray) -> tuple[int, ...]:
        """Return the classes that one slide may have, by its uncalibrated `probability` (C,)."""
        margins = np.log(np.maximum(np.asarray(probability, np.float64), np.finfo(np.float32).tiny))
        return tuple(np.flatnonzero(softmax(margins) >= np.array(self.least)).tolist())


def _rank(n_bags: int, level: float) -> int:
    """Which of the ascending probabilities is the least one, counted from 1; 0 if there are too few."""
    return n_bags + 1 - int(np.ceil((n_bags + 1) * level - 1e-9))


def _least(own: np.ndarray, level: float) -> float:
    rank = _rank(len(own), level)
    return float(np.sort(own)[rank - 1]) if rank else 0.0
