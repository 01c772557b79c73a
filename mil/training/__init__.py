"""The verb `train`: models fold by fold, a sweep for options, folds side by side, and what a fit reports."""

from .config import FitConfig, TrainConfig, new_learner
from .verb import Training, check_extras, train

__all__ = ["FitConfig", "TrainConfig", "Training", "check_extras", "new_learner", "train"]
