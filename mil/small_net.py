"""The small network of an instance: standardised features -> hidden -> margins, seeded by a generator."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer drawn from `generator`: torch's own would draw from the global one."""
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")
    reach = 1 / math.sqrt(n_in)
    nn.init.uniform_(layer.weight, -reach, reach, generator=generator)
    nn.init.uniform_(layer.bias, -reach, reach, generator=generator)
    return layer


class Trunk(nn.Module):
    """One hidden layer, which sees each instance by itself."""

    def __init__(self, dim: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.trunk = linear(dim, hidden, generator)

    def embed(self, features: Tensor) -> Tensor:
        """Return the hidden representation: (N, D) float32 -> (N, hidden)."""
        return functional.relu(self.trunk(features))


class SmallNet(Trunk):
    """A trunk of one hidden layer and an instance classifier on it."""

    def __init__(self, dim: int, hidden: int, n_margins: int, generator: torch.Generator) -> None:
        super().__init__(dim, hidden, generator)
        self.classifier = linear(hidden, n_margins, generator)

    def forward(self, features: Tensor) -> Tensor:
        """Return the margins of instances: (N, D) float32 -> (N, K)."""
        return self.classifier(self.embed(features))
