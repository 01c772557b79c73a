"""Batches of instances drawn across all bags."""

import numpy as np
import torch
from torch import Tensor

from mil.packed import PackedBags


class InstanceSampler:
    """Draws rows of packed bags: a class first, a bag of it, an instance of that, each evenly.

    So a batch mixes bags, and neither a common class nor a huge slide crowds out the others; rare
    positives are drawn more often than they are.
    """

    def __init__(self, packed: PackedBags, generator: torch.Generator) -> None:
        self._packed, self._generator = packed, generator
        present, members = packed.labels.unique(return_inverse=True, dim=0)
        self._bags_by_class = [torch.nonzero(members == k)[:, 0] for k in range(len(present))]

    def draw(self, n: int, soft: Tensor) -> Tensor:
        """Return `n` rows, int64 (n,): a quarter of those that `soft` (N, T) calls positive, if any are."""
        # of millions of instances in each step: torch looks for what is true five times as long
        positive = torch.from_numpy(np.flatnonzero((soft[:, 1:] > soft[:, :1]).any(1).numpy()))
        n_positive = n // 4 if len(positive) else 0
        picked = torch.randint(max(1, len(positive)), (n_positive,), generator=self._generator)
        rows = torch.cat([positive[picked], self._evenly(n - n_positive)])
        return rows[torch.randperm(n, generator=self._generator)]  # prototypes follow batch order

    def _evenly(self, n: int) -> Tensor:
        bags = []
        for k, members in enumerate(self._bags_by_class):
            share = (n + k) // len(self._bags_by_class)
            bags.append(members[torch.randint(len(members), (share,), generator=self._generator)])
        bag = torch.cat(bags)
        within = torch.rand(len(bag), generator=self._generator) * self._packed.counts[bag]
        last = self._packed.counts[bag] - 1
        return self._packed.starts[bag] + torch.minimum(within.long(), last)
