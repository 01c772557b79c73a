"""The context of a bag: what all of its instances have in common, which no single one need explain.

Where a label goes with the whole bag (a stain, a recording's background, tissues that come together), a
pooled instance model calls common instances positive. Witnesses that may explain the label by the context
as well leave to the instances what only they can explain.
"""

import torch
from torch import Tensor, nn


def summary(features: Tensor) -> Tensor:
    """Return mean and mean size of standardised features: (N, D) -> (2 D,)."""
    return torch.cat([features.mean(0), features.abs().mean(0)])


class Context(nn.Module):
    """A linear map of a bag's summary to margins, one a witness: (B, 2 D) -> (W, B, K); none at first."""

    centre: Tensor
    spread: Tensor

    def __init__(self, dim: int, n_margins: int, n_witnesses: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_witnesses, 2 * dim, n_margins))
        self.register_buffer("centre", torch.zeros(2 * dim))
        self.register_buffer("spread", torch.ones(2 * dim))

    @torch.no_grad()
    def standardise_on(self, summaries: Tensor) -> None:
        """Take mean and spread from those of the training bags (B, 2 D)."""
        self.centre, spread = summaries.mean(0), summaries.std(0)
        self.spread = torch.where(spread > 1e-6, spread, 1.0)

    def forward(self, summaries: Tensor) -> Tensor:
        """Return what the context says of bags, as margins."""
        return ((summaries - self.centre) / self.spread) @ self.weight
