"""Batches of instances drawn across all bags."""

import torch
from torch import Tensor

from mil.packed import PackedBags


class InstanceSampler:
    """Draws rows of packed bags: a class first, a bag of it, an instance of that, each evenly.

    So a batch mixes bags, and neither a common class nor a huge slide crowds out the others.
    """

    def __init__(self, packed: PackedBags, generator: torch.Generator) -> None:
        self._packed, self._generator = packed, generator
        present, members = packed.labels.unique(return_inverse=True, sorted=True)
        self._bags_by_class = [torch.nonzero(members == k)[:, 0] for k in range(len(present))]

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Return `n` rows and their bags, both int64 (n,)."""
        bags = []
        for k, members in enumerate(self._bags_by_class):
            share = (n + k) // len(self._bags_by_class)
            bags.append(members[torch.randint(len(members), (share,), generator=self._generator)])
        bag = torch.cat(bags)
        bag = bag[torch.randperm(len(bag), generator=self._generator)]  # prototypes follow batch order
        within = torch.rand(len(bag), generator=self._generator) * self._packed.counts[bag]
        last = self._packed.counts[bag] - 1
        return self._packed.starts[bag] + torch.minimum(within.long(), last), bag
