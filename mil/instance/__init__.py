"""The instance learner (arXiv 2307.02249): losses, prototypes, queue, pseudo labels, learner."""

from .config import PUBLISHED, InstanceConfig
from .learner import SlidebagLearner

__all__ = ["PUBLISHED", "InstanceConfig", "SlidebagLearner"]
