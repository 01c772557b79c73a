"""Witnesses: linear instance models that learn from the bag term alone, each by a pooling of its own.

With few slides a linear model is what bag labels can teach; where several of them, pooled in
different ways, agree on an instance, its pseudo label begins.
"""

import torch
from torch import Tensor, nn

from mil.bag_term import POOLINGS, Balance, bag_loss
from mil.classes import Classes
from mil.packed import PackedBags
from mil.small_net import linear

WITNESSES = ("noisy_or", "log_mean_exp", "top")  # they err on different bags


class Witnesses(nn.Module):
    """One linear map of features (N, D) to margins (N, K) a pooling, and the scale of each.

    `centre` and `spread` (W, K) bring the margins to mean zero and unit spread on the instances that
    cannot be of the class, so that the witnesses speak with one voice.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, dim: int, n_margins: int, generator: torch.Generator) -> None:
        super().__init__()
        self.maps = nn.ModuleList(linear(dim, n_margins, generator) for _ in WITNESSES)
        self.register_buffer("centre", torch.zeros(len(WITNESSES), n_margins))
        self.register_buffer("spread", torch.ones(len(WITNESSES), n_margins))

    def forward(self, features: Tensor) -> Tensor:
        """Return the margins of each witness: (N, D) -> (W, N, K)."""
        return torch.stack([each(features) for each in self.maps])

    def evidence(self, margins: Tensor) -> Tensor:
        """Return what the witnesses say together, (W, N, K) -> (N, K); of mean zero where it is false."""
        return ((margins - self.centre[:, None]) / self.spread[:, None]).mean(0)

    def read_bags(self, margins: Tensor, counts: Tensor) -> Tensor:
        """Return the mean of the witnesses' bag margins: (W, N, K) in runs of `counts` (B,) -> (B, K)."""
        return self._pooled(margins, counts).mean(0)

    def loss(
        self, margins: Tensor, counts: Tensor, labels: Tensor, classes: Classes, balance: Balance
    ) -> Tensor:
        """Return the bag term, summed over the witnesses, who learn apart."""
        pooled = self._pooled(margins, counts)
        return torch.stack([bag_loss(each, labels, classes, balance) for each in pooled]).sum()

    def start_low(self, packed: PackedBags) -> None:
        """Let the noisy-or begin at rest, or every bag of many tiles begins as surely positive."""
        last = self.maps[WITNESSES.index("noisy_or")]
        assert isinstance(last, nn.Linear)
        last.bias.data -= packed.counts.float().mean().log()

    @torch.no_grad()
    def settle(self, features: Tensor, candidates: Tensor) -> None:
        """Set `centre` and `spread` on the instances whose `candidates` (N, T) leave a class out."""
        margins = self(features)
        for k in range(margins.shape[2]):
            known = margins[:, ~candidates[:, k + 1], k]
            self.centre[:, k] = known.mean(1)
            self.spread[:, k] = known.std(1).clamp(min=1e-6)

    def _pooled(self, margins: Tensor, counts: Tensor) -> Tensor:
        return torch.stack([POOLINGS[p](m, counts) for p, m in zip(WITNESSES, margins, strict=True)])
