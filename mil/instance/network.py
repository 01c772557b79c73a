"""The net: trunk, instance classifier, projector, and how a bag is read from the strongest margins."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.bag_term import top_pooling
from mil.small_net import SmallNet, linear

_STRONGEST_ONE_IN = 100  # tiles tell the slide: tumour of one percent must not drown
EMBEDDING = 128  # width of queries, keys and prototypes, as published


class InstanceNet(SmallNet):
    """A small net with a projector, whose bag margin is an increasing line of the pooled margins.

    The line (`gain`, `offset`) lets the margins be log odds of tiles while the strongest ones, pooled,
    still become the log odds of the slide.
    """

    def __init__(self, dim: int, hidden: int, n_margins: int, generator: torch.Generator) -> None:
        super().__init__(dim, hidden, n_margins, generator)
        self.projector = linear(hidden, EMBEDDING, generator)
        self.log_gain = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(n_margins))

    def project(self, embedded: Tensor) -> Tensor:
        """Return unit vectors: (N, hidden) -> (N, 128)."""
        return functional.normalize(self.projector(embedded), dim=1)

    def read_bags(self, margins: Tensor, counts: Tensor) -> Tensor:
        """Return the margins of bags: (N, K) in runs of `counts` (B,) -> (B, K)."""
        return top_pooling(margins, counts, _STRONGEST_ONE_IN) * self.log_gain.exp() + self.offset


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
