"""Prototypes: one unit vector a class, which follows the instances of its class."""

import torch
from torch import Tensor
from torch.nn import functional


class Prototypes:
    """Unit vectors `vectors` (T, E), moved by a share 1 - `momentum` towards each instance in turn."""

    def __init__(self, vectors: Tensor, momentum: float) -> None:
        self.vectors = functional.normalize(vectors, dim=1)
        self.momentum = momentum

    def scores(self, queries: Tensor) -> Tensor:
        """Return z = softmax(q . mu), (B, T), of queries (B, E)."""
        return functional.softmax(queries @ self.vectors.T, dim=1)

    def update(self, queries: Tensor, classes: Tensor) -> None:
        """Move each prototype through the queries (B, E) of its class (B,), in order, then normalise."""
        moved = self.vectors.clone()
        for c in range(len(moved)):
            own = queries[classes == c].detach()
            powers = self.momentum ** torch.arange(len(own) - 1, -1, -1.0)
            # n steps of mu <- g mu + (1 - g) q at once
            moved[c] = self.momentum ** len(own) * moved[c] + (1 - self.momentum) * (powers @ own)
        self.vectors = functional.normalize(moved, dim=1)

    def angle_deg(self) -> float:
        """Return the smallest angle between two prototypes in degrees: near 0 they have collapsed."""
        cosine = (self.vectors @ self.vectors.T).fill_diagonal_(-1).max().clamp(-1, 1)
        return float(torch.rad2deg(torch.arccos(cosine)))
