"""Lines on margins: what a calibration is. They rise, so no order of slides or tiles ever changes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, softmax

_LEAST = float(np.finfo(np.float32).tiny)
_LEAST_BELOW_ONE = float(np.finfo(np.float32).epsneg) / 2  # half the step of float32 below 1


@dataclass(frozen=True)
class Lines:
    """A rising line for each margin: calibrated = slope * margin + offset, `slopes` above 0.

    Margins are those of classes that exclude each other, or not, as `is_exclusive` says.
    """

    slopes: tuple[float, ...]
    offsets: tuple[float, ...]
    is_exclusive: bool = True

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Lines":
        """Return the lines that a JSON tells of."""
        return cls(tuple(told["slopes"]), tuple(told["offsets"]), told.get("is_exclusive", True))

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float32 of the same shape (N, C)."""
        margins = margins_of(probability, is_exclusive=self.is_exclusive) * self.slopes + self.offsets
        return to_probability(margins, is_exclusive=self.is_exclusive)

    def undo(self, probability: np.ndarray) -> np.ndarray:
        """Return the probabilities before the calibration, as nearly as float32 keeps them."""
        margins = (margins_of(probability, is_exclusive=self.is_exclusive) - self.offsets) / self.slopes
        return to_probability(margins, is_exclusive=self.is_exclusive)


def margins_of(probability: np.ndarray, *, is_exclusive: bool = True) -> np.ndarray:
    """Return the log odds of each class against the first, float64: (N, C) -> (N, C - 1).

    Of classes that do not exclude each other, of each against all that is not of it: (N, C).
    """
    exact = np.asarray(probability, np.float64)
    logarithms = np.log(np.maximum(exact, _LEAST))
    if is_exclusive:
        return logarithms[:, 1:] - logarithms[:, :1]
    return logarithms - np.log(np.maximum(1 - exact, _LEAST_BELOW_ONE))


def to_probability(margins: np.ndarray, *, is_exclusive: bool = True) -> np.ndarray:
    """Return the probabilities whose `margins_of` are `margins`: float32 (N, C)."""
    return exact_probability(margins, is_exclusive=is_exclusive).astype(np.float32)


def exact_probability(margins: np.ndarray, *, is_exclusive: bool = True) -> np.ndarray:
    """Return what `to_probability` does, as float64."""
    return softmax(np.pad(margins, ((0, 0), (1, 0))), axis=1) if is_exclusive else expit(margins)
