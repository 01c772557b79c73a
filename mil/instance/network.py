"""One member of the committee: trunk, instance classifier, projector, and how the bag reads the margins."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.bag_term import POOLINGS
from mil.small_net import SmallNet, linear


class InstanceNet(SmallNet):
    """A small net with a projector, whose bag margin is an increasing line of the pooled margins.

    The line (`gain`, `offset`) lets the margins be log odds of tiles while their mean, which is far
    lower where few tiles are positive, still becomes the log odds of the slide.
    """

    def __init__(
        self, dim: int, hidden: int, n_margins: int, pooling: str, generator: torch.Generator
    ) -> None:
        super().__init__(dim, hidden, n_margins, generator)
        self.projector = linear(hidden, 128, generator)
        self.log_gain = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(n_margins))
        self.pooling = pooling

    def project(self, embedded: Tensor) -> Tensor:
        """Return unit vectors: (N, hidden) -> (N, 128)."""
        return functional.normalize(self.projector(embedded), dim=1)

    def read_bags(self, margins: Tensor, counts: Tensor) -> Tensor:
        """Return the margins of bags: (N, K) in runs of `counts` (B,) -> (B, K)."""
        return POOLINGS[self.pooling](margins, counts) * self.log_gain.exp() + self.offset


class MomentumCopy:
    """A slow copy of a net that makes the keys; no gradient ever reaches it."""

    def __init__(self, net: InstanceNet, momentum: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(requires_grad=False)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, net: InstanceNet) -> None:
        """Move the copy a share 1 - momentum towards `net`."""
        for own, other in zip(self.net.parameters(), net.parameters(), strict=True):
            own.lerp_(other, 1 - self.momentum)

    @torch.no_grad()
    def keys(self, features: Tensor) -> Tensor:
        """Return the keys of features: (B, D) -> (B, 128) of unit norm."""
        return self.net.project(self.net.embed(features))
