"""`dsmil`: a bag is told by its strongest instance, and by those that are like it (arXiv 2011.08939)."""

import torch
from torch import Tensor, nn
from torchmil.models import DSMIL

from mil.bag_term import tile_probability
from mil.learner import LEARNERS
from mil.net_learner import BagNet, NetLearner, Step

from .attention import AttentionConfig, drawn_from, padded


class DsmilNet(BagNet):
    """The two streams, a pair for each class on one trunk."""

    def __init__(self, dim: int, n_margins: int, config: AttentionConfig, generator: torch.Generator) -> None:
        super().__init__(dim, config.hidden, generator)
        with drawn_from(generator):
            streams = [DSMIL(in_shape=(config.hidden,), att_dim=config.attention) for _ in range(n_margins)]
        # at zero, all instances are the largest in the first step, and the stream sets out to their mean:
        # from a random beginning the largest one often leads to the absence of the class
        for stream in streams:
            nn.init.zeros_(stream.inst_classifier.weight)
            nn.init.zeros_(stream.inst_classifier.bias)
        self.streams = nn.ModuleList(streams)

    def _streams(self, bags: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins of the bag stream (B, K) and of the instance stream (B, n, K)."""
        both = [stream(bags, is_real, return_inst_pred=True) for stream in self.streams]
        bag, instances = zip(*both, strict=True)
        return torch.stack(bag, 1), torch.stack(instances, 2)

    def loss(self, embedded: Tensor, step: Step) -> Tensor:
        """Return the mean of the bag terms of both streams."""
        bags, is_real = padded(embedded, step.counts)
        bag, instances = self._streams(bags, is_real)
        strongest = instances.masked_fill(~is_real[..., None], -torch.inf).amax(1)
        return (step.bag_loss(bag) + step.bag_loss(strongest)) / 2

    def read(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of both streams' margins (1, K), and the instance stream's probabilities (N, T)."""
        bag, instances = self._streams(embedded[None], torch.ones(1, len(embedded), dtype=torch.bool))
        return (bag + instances.amax(1)) / 2, tile_probability(instances[0])


@LEARNERS.register("dsmil")
class DsmilLearner(NetLearner):
    """DSMIL (arXiv 2011.08939); a tile's probability is that of its instance stream.

    That stream is taught by the largest instance alone. With several classes each has its two streams.
    """

    name = "dsmil"
    config: AttentionConfig
    config_class = AttentionConfig

    def _new_net(self, generator: torch.Generator) -> DsmilNet:
        return DsmilNet(self.dim, self.classes.n_positive, self.config, generator)
