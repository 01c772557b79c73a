"""Instance pooling: a small instance network that learns from the bag term alone, one way of pooling each."""

from typing import ClassVar

import torch
from torch import Tensor

from .bag_term import Pooling, pooling_of, tile_probability
from .learner import LEARNERS
from .net_learner import BagNet, NetConfig, NetLearner, Step
from .packed import InstanceHead
from .small_net import linear


class PoolingNet(BagNet):
    """Instance margins, pooled to the bag's; the tiles' probabilities are the margins themselves."""

    def __init__(
        self, dim: int, hidden: int, n_margins: int, pooling: Pooling, generator: torch.Generator
    ) -> None:
        super().__init__(dim, hidden, generator)
        self.classifier = linear(hidden, n_margins, generator)
        self._pool = pooling

    def forward(self, features: Tensor) -> Tensor:
        """Return the margins of instances: (N, D) float32 -> (N, K)."""
        return self.classifier(self.embed(features))

    def loss(self, embedded: Tensor, step: Step) -> Tensor:
        """Return the bag term of the pooled margins."""
        return step.bag_loss(self._pool(self.classifier(embedded), step.counts))

    def read(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled margins (1, K) and each tile's own as probabilities (N, T)."""
        margins = self.classifier(embedded)
        return self._pool(margins, torch.tensor([len(margins)])), tile_probability(margins)


class PoolingLearner(NetLearner):
    """Instance margins pooled to the bag's."""

    config: NetConfig
    config_class = NetConfig
    pooling: ClassVar[str]

    def instance_head(self) -> InstanceHead:
        """Return standardiser and net."""
        return InstanceHead(self._standardise, [self._net])

    def _new_net(self, generator: torch.Generator) -> PoolingNet:
        pool = pooling_of(self.pooling, self.config.tiles_per_bag)
        return PoolingNet(self.dim, self.config.hidden, self.classes.n_positive, pool, generator)


@LEARNERS.register("mean")
class MeanPooling(PoolingLearner):
    """The mean margin is the bag's: each instance votes."""

    name = pooling = "mean"


@LEARNERS.register("max")
class MaxPooling(PoolingLearner):
    """The strongest instance is the bag's: the standard assumption taken literally."""

    name = pooling = "max"


@LEARNERS.register("mix")
class MixPooling(PoolingLearner):
    """The middle of mean and maximum: the strongest single network on slides and tiles."""

    name = pooling = "mix"


@LEARNERS.register("noisy_or")
class NoisyOrPooling(PoolingLearner):
    """A bag is of a class if at least one of its instances, taken as independent, is."""

    name = pooling = "noisy_or"
