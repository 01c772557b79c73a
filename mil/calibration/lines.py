"""Lines on margins: what a calibration is. They rise, so no order of slides or tiles ever changes."""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Lines:
    """A rising line for each margin: calibrated = slope * margin + offset, `slopes` above 0."""

    slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float32 of the same shape (N, C), rows summing to 1."""
        return to_probability(margins_of(probability) * self.slopes + self.offsets)

    def undo(self, probability: np.ndarray) -> np.ndarray:
        """Return the probabilities before the calibration, as nearly as float32 keeps them."""
        return to_probability((margins_of(probability) - self.offsets) / self.slopes)


def margins_of(probability: np.ndarray) -> np.ndarray:
    """Return the log odds of each class against the first, float64: (N, C) -> (N, C - 1)."""
    logarithms = np.log(np.maximum(np.asarray(probability, np.float64), _LEAST))
    return logarithms[:, 1:] - logarithms[:, :1]


def to_probability(margins: np.ndarray) -> np.ndarray:
    """Return the probabilities whose log odds against the first class are `margins`: float32 (N, C)."""
    return softmax(np.pad(margins, ((0, 0), (1, 0))), axis=1).astype(np.float32)
