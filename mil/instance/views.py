"""Two views of an instance from its features alone: dropout in evaluation mode would give the same twice."""

from typing import Protocol

import faiss
import numpy as np
import torch
from torch import Tensor

from mil.packed import CHUNK

_AT_ONCE = 2**16  # random numbers that stay in the processor's caches
_REFERENCES = 4096  # of each candidate set, a sample that neighbours are looked for in


class Rows(Protocol):
    """Where the features of instances are read from, some at a time."""

    def rows(self, rows: Tensor) -> Tensor:
        """Return the features of some rows (B,): float32 (B, D)."""
        ...


class NearNeighbours:
    """Near neighbours of instances in their own candidate sets, looked for when they are first asked for.

    They come from a random sample of the set, `samples` int64 (at most 4,096) a set; `group` int16 (N,)
    numbers the set of each instance, `found` int32 (N, k) is -1 until then.
    """

    def __init__(self, k: int) -> None:
        self.found, self.group = torch.empty(0, k, dtype=torch.int32), torch.empty(0, dtype=torch.int16)
        self.samples: list[Tensor] = []

    def begin(self, sets: Tensor, generator: torch.Generator) -> None:
        """Draw the samples; `sets` (N,) is the candidate set of each instance."""
        each, group = sets.unique(return_inverse=True)
        self.group = group.to(torch.int16)
        self.found = torch.full((len(sets), self.found.shape[1]), -1, dtype=torch.int32)
        rows = (torch.nonzero(self.group == number)[:, 0] for number in range(len(each)))
        self.samples = [own[torch.randperm(len(own), generator=generator)[:_REFERENCES]] for own in rows]

    def of(self, rows: Tensor, source: Rows) -> Tensor:
        """Return rows of near neighbours of some instances (n,): int64 (n, k).

        Where the sample is small one's own row may be among them, as may repeats.
        """
        new = rows[self.found[rows, 0] < 0].unique()
        for number, sample in enumerate(self.samples):
            own = new[self.group[new] == number]
            if len(own):
                self.found[own] = self._search(own, sample, source).int()
        return self.found[rows].long()

    def _search(self, rows: Tensor, sample: Tensor, source: Rows) -> Tensor:
        references = source.rows(sample).numpy()
        index = faiss.IndexFlatL2(references.shape[1])
        index.add(references)  # pyright: ignore[reportCallIssue]
        k = self.found.shape[1]
        wanted = min(k + 1, len(sample))
        parts = [index.search(source.rows(part).numpy(), wanted)[1] for part in rows.split(CHUNK)]  # pyright: ignore[reportCallIssue]
        near = sample[torch.from_numpy(np.concatenate(parts))]
        oneself_last = (near == rows[:, None]).int().argsort(dim=1, stable=True)
        return near.gather(1, oneself_last)[:, torch.arange(k) % max(wanted - 1, 1)]


def view(
    features: Tensor, neighbours: Tensor, strength: float, dropout: float, generator: torch.Generator
) -> Tensor:
    """Return one view: features (B, D) drawn a random part of the way to a neighbour (B, D) each.

    The part is even in 0 to `strength`; a share `dropout` of the numbers is left out, the rest scaled up.
    """
    part = strength * torch.rand(len(features), 1, generator=generator)
    mixed = features + part * (neighbours - features)
    return thinned(mixed, dropout, generator)


def thinned(numbers: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return `numbers` with a random `share` of them zero and the rest scaled up for it."""
    if not share:
        return numbers
    flat = torch.empty(numbers.numel())
    for some in flat.split(_AT_ONCE):
        # 16 random bits a number: four are drawn in the time of one
        bits = torch.empty(-(-len(some) // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
        some.copy_(bits.view(torch.int16)[: len(some)] > round(share * 2**16) - 2**15 - 1)
        some.mul_(1 / max(1 - share, 1e-6))
    return numbers * flat.view(numbers.shape)
