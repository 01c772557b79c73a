"""Two views of an instance from its features alone: dropout in evaluation mode would give the same twice."""

from typing import Protocol

import faiss
import numpy as np
import torch
from torch import Tensor

from mil.packed import CHUNK

_REFERENCES = 4096  # of each candidate set, a sample that neighbours are looked for in


class Rows(Protocol):
    """Where the features of instances are read from, some at a time."""

    @property
    def generator(self) -> torch.Generator:
        """Return where all chance comes from."""
        ...

    def rows(self, rows: Tensor) -> Tensor:
        """Return the features of some rows (B,): float32 (B, D)."""
        ...


def near_neighbours(source: Rows, groups: Tensor, k: int) -> Tensor:
    """Return rows of `k` near neighbours of each instance in its own candidate set: int64 (N, k).

    `groups` (N,) is the candidate set of each. Neighbours come from a random sample of the set; one's
    own row may be among them, as may repeats where the sample is small.
    """
    neighbours = torch.empty(len(groups), k, dtype=torch.int64)
    for group in groups.unique(sorted=True):
        rows = torch.nonzero(groups == group)[:, 0]
        sample = rows[torch.randperm(len(rows), generator=source.generator)[:_REFERENCES]]
        references = np.ascontiguousarray(source.rows(sample).numpy())
        index = faiss.IndexFlatL2(references.shape[1])
        index.add(references)  # pyright: ignore[reportCallIssue]
        wanted = min(k + 1, len(sample))
        # the nearest is mostly oneself
        places = torch.arange(k) % max(wanted - 1, 1) + (1 if wanted > 1 else 0)
        for part in rows.split(CHUNK):
            _, found = index.search(np.ascontiguousarray(source.rows(part).numpy()), wanted)  # pyright: ignore[reportCallIssue]
            neighbours[part] = sample[torch.from_numpy(found)[:, places]]
    return neighbours


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
    kept = torch.rand(numbers.shape, generator=generator) >= share
    return numbers * kept / max(1 - share, 1e-6)
