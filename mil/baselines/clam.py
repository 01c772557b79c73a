"""`clam_sb` and `clam_mb`: attention that an instance loss keeps in order (arXiv 2004.09666)."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmil.nn import AttentionPool

from mil.bag_term import candidates_of
from mil.learner import LEARNERS
from mil.net_learner import BagNet, NetLearner, Step
from tiling import ConfigError

from .attention import AttentionConfig, attended_probability, drawn_from, padded


@dataclass(frozen=True, kw_only=True)
class ClamConfig(AttentionConfig):
    """How CLAM is trained."""

    clustered: int = field(
        default=8, metadata={"help": "most and least attended tiles of a bag that are clustered, each"}
    )
    clustering_weight: float = field(
        default=0.3, metadata={"help": "weight of the clustering; of the bag term it is the rest to 1"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clustered < 1 or not 0 <= self.clustering_weight < 1:
            raise ConfigError(
                f"clustered is {self.clustered}, clustering_weight {self.clustering_weight:g}",
                hint="cluster 1 or more, with a weight from 0 to below 1",
            )


class ClamNet(BagNet):
    """Gated attention in one branch for all classes, or one each, and instance classifiers that teach it."""

    def __init__(
        self, dim: int, n_margins: int, n_branches: int, config: ClamConfig, generator: torch.Generator
    ) -> None:
        super().__init__(dim, config.hidden, generator)
        self._clustered, self._weight = config.clustered, config.clustering_weight
        with drawn_from(generator):
            self.branches = nn.ModuleList(
                [AttentionPool(config.hidden, config.attention, gated=True) for _ in range(n_branches)]
            )
            self.classifier = nn.Linear(config.hidden, n_margins)
            self.instance_classifier = nn.Linear(config.hidden, n_margins)

    def _attend(self, bags: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins (B, K) and attention before the softmax (B, n, K or 1)."""
        means, attention = zip(*(pool(bags, is_real, return_att=True) for pool in self.branches), strict=True)
        margins = (torch.stack(means, 1) * self.classifier.weight).sum(2) + self.classifier.bias
        return margins, torch.stack(attention, 2)

    def loss(self, embedded: Tensor, step: Step) -> Tensor:
        """Return the bag term and, weighted against it, the clustering of the instances."""
        bags, is_real = padded(embedded, step.counts)
        margins, attention = self._attend(bags, is_real)
        is_of = candidates_of(step.labels, step.classes)[:, 1:]
        clustering = self._clustering(self.instance_classifier(bags), attention, is_real, is_of)
        return (1 - self._weight) * step.bag_loss(margins) + self._weight * clustering

    def _clustering(self, margins: Tensor, attention: Tensor, is_real: Tensor, is_of: Tensor) -> Tensor:
        """Return the instance loss of margins (B, n, K) under the bags' classes `is_of` bool (B, K).

        In a bag of a class the most attended tiles are called of it and the least attended not; in
        another bag the most attended are called not. The loss is the smooth SVM of two classes.
        """
        counts = is_real.sum(1)[:, None]
        k = min(self._clustered, is_real.shape[1])
        rank = torch.arange(k)
        attention = attention.detach().expand_as(margins)
        total, n_counted = margins.new_zeros(()), margins.new_zeros(())
        for is_top in (True, False):
            worst = -torch.inf if is_top else torch.inf
            found = attention.masked_fill(~is_real[..., None], worst).topk(k, dim=1, largest=is_top).indices
            # the two halves of a small bag never share a tile
            in_half = (rank < (counts + 1) // 2 if is_top else rank < counts // 2)[..., None]
            counted = (in_half & (is_of | torch.tensor(is_top))[:, None]).float()
            truth = (is_of if is_top else torch.zeros_like(is_of)).float()[:, None] * 2 - 1
            total = total + (functional.softplus(1 - truth * margins.gather(1, found)) * counted).sum()
            n_counted = n_counted + counted.sum()
        return total / n_counted

    def read(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins (1, K), and the attention told as tile probabilities (N, T)."""
        pooled, attention = self._attend(embedded[None], torch.ones(1, len(embedded), dtype=torch.bool))
        return pooled, attended_probability(attention[0].softmax(0), pooled)


class ClamLearner(NetLearner):
    """CLAM (arXiv 2004.09666), read as its authors draw their heatmaps: by attention.

    A tile's probability is `attended_probability`. The instance classifiers teach the hidden layer in
    training and are not asked afterwards. The library's own clustering loss compares each instance
    with the labels of all others, so it is not used.
    """

    config: ClamConfig
    config_class = ClamConfig
    has_branches: ClassVar[bool]

    def _new_net(self, generator: torch.Generator) -> ClamNet:
        n_margins = self.classes.n_positive
        return ClamNet(self.dim, n_margins, n_margins if self.has_branches else 1, self.config, generator)


@LEARNERS.register("clam_sb")
class ClamSingleBranch(ClamLearner):
    """CLAM with one attention for all classes."""

    name = "clam_sb"
    has_branches = False


@LEARNERS.register("clam_mb")
class ClamMultiBranch(ClamLearner):
    """CLAM with an attention for each class; with one positive class it is `clam_sb`."""

    name = "clam_mb"
    has_branches = True
