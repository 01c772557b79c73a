"""Witnesses: instance models that learn from the bag term alone, each by a pooling of its own.

Where several of them, pooled in different ways, agree on an instance, its pseudo label begins.
"""

import torch
from torch import Tensor, nn

from mil.bag_term import bag_loss, pooling_of

from .context import Context
from .maps import Maps
from .material import Material

WITNESSES = ("noisy_or", "log_mean_exp", "soft_mean", "mean")  # they err on different bags


class Witnesses(nn.Module):
    """One map of features (N, D) to margins (N, K) a pooling, and the scale of each.

    Of the kind `linear` the maps are linear: with few slides that is what bag labels can teach. `hidden`
    ones have a hidden layer, those of the kind `context` heed the context of the bag besides. `centre` and
    `spread` (W, K) bring the margins to mean zero and unit spread on the instances that cannot be of
    the class, so that the witnesses speak with one voice.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        dim: int,
        n_margins: int,
        kind: str,
        hidden: int,
        most_tiles: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.kind, self.most_tiles = kind, most_tiles
        self.maps = Maps(dim, len(WITNESSES), 0 if kind == "linear" else hidden, n_margins, generator)
        self.context = Context(dim, n_margins, len(WITNESSES)) if kind == "context" else None
        self.register_buffer("centre", torch.zeros(len(WITNESSES), n_margins))
        self.register_buffer("spread", torch.ones(len(WITNESSES), n_margins))

    def forward(self, features: Tensor) -> Tensor:
        """Return the margins of each witness: (N, D) -> (W, N, K)."""
        return self.maps(features)

    def evidence(self, margins: Tensor) -> Tensor:
        """Return what the witnesses say together, (W, N, K) -> (N, K); of mean zero where it is false."""
        return ((margins - self.centre[:, None]) / self.spread[:, None]).mean(0)

    def read_each(self, margins: Tensor, counts: Tensor, summaries: Tensor) -> Tensor:
        """Return each witness' bag margins: (W, N, K) in runs of `counts` (B,) -> (W, B, K)."""
        poolings = [pooling_of(name, self.most_tiles) for name in WITNESSES]
        pooled = torch.stack([pool(own, counts) for pool, own in zip(poolings, margins, strict=True)])
        return pooled if self.context is None else pooled + self.context(summaries)

    def loss(self, material: Material, rows: Tensor, counts: Tensor, bags: Tensor) -> Tensor:
        """Return the bag term of bags (B,), summed over the witnesses, who learn apart."""
        margins = self.maps.unsure(material.drawn(rows), material.generator)
        pooled = self.read_each(margins, counts, self.heeded(material, bags))
        labels = material.packed.labels[bags]
        return torch.stack([bag_loss(p, labels, material.classes, material.balance) for p in pooled]).sum()

    def heeded(self, material: Material, bags: Tensor) -> Tensor:
        """Return the summaries of bags, (B, 2 D), or for witnesses that do not heed them nothing, (B, 0)."""
        return torch.empty(len(bags), 0) if self.context is None else material.summaries[bags]

    def begin(self, material: Material, among: Tensor) -> None:
        """Let the noisy-or begin at rest, or every bag of many tiles begins as surely positive."""
        usual = material.packed.counts.clamp(max=self.most_tiles).float().mean()
        self.maps.lower(WITNESSES.index("noisy_or"), usual.log())
        if self.context is not None:
            self.context.standardise_on(material.summaries[among])

    @torch.no_grad()
    def settle(self, material: Material) -> Tensor:
        """Set `centre` and `spread` on the instances whose candidates leave a class out.

        Return the evidence for all instances, (N, K).
        """
        margins = material.read_all(self)
        for k in range(margins.shape[2]):
            known = margins[:, ~material.candidates[:, k + 1], k]
            self.centre[:, k] = known.mean(1)
            spread = known.std(1, correction=0)
            self.spread[:, k] = torch.where(spread > 1e-6, spread, 1.0)
        return self.evidence(margins)
