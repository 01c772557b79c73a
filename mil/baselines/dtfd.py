"""`dtfd`: a bag is told by pseudo-bags of its instances, which are told by attention (arXiv 2203.12081)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torchmil.nn import AttentionPool

from mil.bag_term import tile_probability
from mil.learner import LEARNERS
from mil.net_learner import BagNet, NetLearner, Step
from tiling import ConfigError

from .attention import AttentionConfig, drawn_from, padded


@dataclass(frozen=True, kw_only=True)
class DtfdConfig(AttentionConfig):
    """How DTFD-MIL is trained."""

    pseudo_bags: int = field(default=5, metadata={"help": "pseudo-bags of a bag, of one tile at least"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pseudo_bags < 1:
            raise ConfigError(f"pseudo_bags is {self.pseudo_bags}", hint="give 1 or more")


class Tier(nn.Module):
    """Attention pooling and a linear classifier."""

    def __init__(self, hidden: int, attention: int, n_margins: int) -> None:
        super().__init__()
        self.pool = AttentionPool(hidden, attention)
        self.classifier = nn.Linear(hidden, n_margins)

    def forward(self, values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return means (B, H) and margins (B, K) of runs of `counts` (B,) in `values` (N, H)."""
        mean = self.pool(*padded(values, counts))
        return mean, self.classifier(mean)


class DtfdNet(BagNet):
    """Tier one on pseudo-bags, tier two on their means: the authors' aggregated feature selection."""

    def __init__(self, dim: int, n_margins: int, config: DtfdConfig, generator: torch.Generator) -> None:
        super().__init__(dim, config.hidden, generator)
        self._pseudo_bags = config.pseudo_bags
        with drawn_from(generator):
            self.first = Tier(config.hidden, config.attention, n_margins)
            self.second = Tier(config.hidden, config.attention, n_margins)

    def loss(self, embedded: Tensor, step: Step) -> Tensor:
        """Return the bag terms of the pseudo-bags, drawn anew in each step, and of the bags."""
        bag_of = torch.repeat_interleave(step.counts)
        mixed = (bag_of + torch.rand(len(bag_of), generator=step.generator, dtype=torch.float64)).argsort()
        n_parts, sizes = self._parts(step.counts)
        means, of_parts = self.first(embedded[mixed], sizes)
        return step.bag_loss(of_parts, n_parts) + step.bag_loss(self.second(means, n_parts)[1])

    def _parts(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many pseudo-bags bags have (B,), and the sizes of all these, which differ by one."""
        n_parts = counts.clamp(max=self._pseudo_bags)
        of_bag = torch.repeat_interleave(n_parts)
        place = torch.cat([torch.arange(n) for n in n_parts.tolist()])
        return n_parts, (counts // n_parts)[of_bag] + (place < (counts % n_parts)[of_bag])

    def read(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins (1, K) of tier two, and tier one's instance probabilities (N, T).

        Nothing is drawn: tiles are dealt to the pseudo-bags in the order of their attention.
        """
        _, attention = self.first.pool(embedded[None], return_att=True)
        relative = attention[0].softmax(0)[:, None] * len(embedded)
        margins = self.first.classifier(embedded * relative)
        n_parts, sizes = self._parts(torch.tensor([len(embedded)]))
        order = attention[0].argsort(descending=True, stable=True)
        dealt = torch.cat([order[part :: int(n_parts)] for part in range(int(n_parts))])
        means, _ = self.first(embedded[dealt], sizes)
        return self.second(means, n_parts)[1], tile_probability(margins)


@LEARNERS.register("dtfd")
class DtfdLearner(NetLearner):
    """DTFD-MIL (arXiv 2203.12081); a tile's probability is the authors' instance probability of tier one.

    It is the softmax of the margins that a tile adds to the bag: its features, times its attention
    relative to a uniform one, through the classifier of tier one. Their mean over a bag is tier one's
    margin of the bag.
    """

    name = "dtfd"
    config: DtfdConfig
    config_class = DtfdConfig

    def _new_net(self, generator: torch.Generator) -> DtfdNet:
        return DtfdNet(self.dim, self.classes.n_positive, self.config, generator)
