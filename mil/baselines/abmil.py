"""`abmil` and `gated_abmil`: attention pooling (arXiv 1802.04712)."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchmil.nn import AttentionPool

from mil.learner import LEARNERS
from mil.net_learner import BagNet, NetLearner, Step

from .attention import AttentionConfig, attended_probability, drawn_from, padded


class AttentionNet(BagNet):
    """The mean of the instances by attention, and a linear classifier on it."""

    def __init__(
        self, dim: int, n_margins: int, config: AttentionConfig, generator: torch.Generator, *, is_gated: bool
    ) -> None:
        super().__init__(dim, config.hidden, generator)
        with drawn_from(generator):
            self.pool = AttentionPool(config.hidden, config.attention, gated=is_gated)
            self.classifier = nn.Linear(config.hidden, n_margins)

    def loss(self, embedded: Tensor, step: Step) -> Tensor:
        """Return the bag term of the bags' margins."""
        return step.bag_loss(self.classifier(self.pool(*padded(embedded, step.counts))))

    def read(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins (1, K), and the attention told as tile probabilities (N, T)."""
        mean, attention = self.pool(embedded[None], return_att=True)
        pooled = self.classifier(mean)
        return pooled, attended_probability(attention.softmax(1).T, pooled)


class AttentionLearner(NetLearner):
    """ABMIL (arXiv 1802.04712), read as its authors read it: by attention, one for all classes.

    A tile's probability is `attended_probability`, which puts tiles of a slide in the order of their
    attention.
    """

    config: AttentionConfig
    config_class = AttentionConfig
    is_gated: ClassVar[bool]

    def _new_net(self, generator: torch.Generator) -> AttentionNet:
        return AttentionNet(self.dim, self.classes.n_positive, self.config, generator, is_gated=self.is_gated)


@LEARNERS.register("abmil")
class Abmil(AttentionLearner):
    """ABMIL with attention w · tanh(V h)."""

    name = "abmil"
    is_gated = False


@LEARNERS.register("gated_abmil")
class GatedAbmil(AttentionLearner):
    """ABMIL with attention w · (tanh(V h) ⊙ sigmoid(U h))."""

    name = "gated_abmil"
    is_gated = True
