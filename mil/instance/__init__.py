"""The instance learner (arXiv 2307.02249): losses, prototypes, queue, pseudo labels, learner."""

from .learner import InstanceConfig, SlidebagLearner

__all__ = ["InstanceConfig", "SlidebagLearner"]
