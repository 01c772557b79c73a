"""Two views of an instance from its features alone: dropout in evaluation mode would give the same twice."""

import faiss
import numpy as np
import torch
from torch import Tensor

_REFERENCES = 4096  # of each candidate set, a sample that neighbours are looked for in


def near_neighbours(features: Tensor, groups: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return rows of `k` near neighbours of each instance in its own candidate set: int64 (N, k).

    `features` float32 (N, D), `groups` (N,) the candidate set of each. Neighbours come from a random
    sample of the set; one's own row may be among them, as may repeats where the sample is small.
    """
    neighbours = torch.empty(len(features), k, dtype=torch.int64)
    for group in groups.unique(sorted=True):
        rows = torch.nonzero(groups == group)[:, 0]
        sample = rows[torch.randperm(len(rows), generator=generator)[:_REFERENCES]]
        index = faiss.IndexFlatL2(features.shape[1])
        index.add(np.ascontiguousarray(features[sample].numpy()))  # pyright: ignore[reportCallIssue]
        wanted = min(k + 1, len(sample))
        _, found = index.search(np.ascontiguousarray(features[rows].numpy()), wanted)  # pyright: ignore[reportCallIssue]
        # the nearest is mostly oneself
        places = torch.arange(k) % max(wanted - 1, 1) + (1 if wanted > 1 else 0)
        neighbours[rows] = sample[torch.from_numpy(found)[:, places]]
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
