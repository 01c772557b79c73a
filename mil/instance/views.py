"""Two views of an instance from its features alone: dropout in evaluation mode would give the same twice."""

from typing import Protocol

import faiss
import numpy as np
import torch
from torch import Tensor

from mil.packed import CHUNK

_DRAWN = 2**16  # random numbers that rows of a matrix take theirs from
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
    """Return `numbers` (B, D) with a random `share` of them zero and the rest scaled up for it.

    Each row takes what it keeps from a random place of one sequence, which is drawn anew each time: to
    draw for each number took as long as to multiply the features with the first layer.
    """
    if not share:
        return numbers
    width = numbers.shape[1]
    kept = torch.rand(_DRAWN + width, generator=generator).ge(share) / max(1 - share, 1e-6)
    places = torch.randint(_DRAWN, (len(numbers),), generator=generator)
    return numbers * kept.unfold(0, width, 1).index_select(0, places)
