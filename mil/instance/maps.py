"""Several maps of the same features side by side: one product with them all reads the features once."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.small_net import linear

from .views import thinned


class Maps(nn.Module):
    """`n_maps` maps of features (N, D) to margins (N, K), which have nothing in common but their input.

    They are linear where `hidden` is 0, else each has a layer of so many units.
    """

    def __init__(
        self, dim: int, n_maps: int, hidden: int, n_margins: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.n_maps, self.hidden = n_maps, hidden
        if not hidden:
            self.first = linear(dim, n_maps * n_margins, generator)
            return
        self.first = linear(dim, n_maps * hidden, generator)
        each = [linear(hidden, n_margins, generator) for _ in range(n_maps)]
        self.second = nn.Parameter(torch.stack([layer.weight.data.T for layer in each]))
        self.offset = nn.Parameter(torch.cat([layer.bias.data for layer in each]))

    def forward(self, features: Tensor) -> Tensor:
        """Return the margins of each map: (N, D) -> (W, N, K)."""
        return self._read(self.first(features), None)

    def unsure(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return margins in training: hidden layers learn with a part of the numbers left out."""
        seen = thinned(features, 0.1, generator) if self.hidden else features
        return self._read(self.first(seen), generator)

    def lower(self, number: int, by: Tensor) -> None:
        """Take `by` from all margins of a map."""
        offset = self.offset if self.hidden else self.first.bias
        offset.data.view(self.n_maps, -1)[number] -= by

    def _read(self, first: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.hidden:
            return first.unflatten(1, (self.n_maps, -1)).transpose(0, 1)
        units = functional.relu(first)
        if generator is not None:
            units = thinned(units, 0.3, generator)
        margins = units.unflatten(1, (self.n_maps, self.hidden)).transpose(0, 1) @ self.second
        return margins + self.offset.view(self.n_maps, 1, -1)
