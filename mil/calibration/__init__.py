"""From a learner's margins to probabilities that mean what they say, from bag labels alone."""

from .calibration import Calibration, Frozen, calibrate, slide_figures
from .held_out import HeldOut
from .lines import Lines, margins_of
from .sets import ClassSets

__all__ = [
    "Calibration",
    "ClassSets",
    "Frozen",
    "HeldOut",
    "Lines",
    "calibrate",
    "margins_of",
    "slide_figures",
]
