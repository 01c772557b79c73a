"""All training bags as one matrix, and the standardising of features by the training's own figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from .classes import Labels
from .learner import Bag

_FARTHEST = 4.0  # standard deviations: a pixel that is nearly always dark must not outshout all others
CHUNK = 16384  # instances looked at at once: a slide of 100,000 tiles never needs more memory


@dataclass(frozen=True)
class Standardiser:
    """Brings features to zero mean and unit variance: `mean` and `scale` float32 (D,)."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, bags: Sequence[Bag]) -> "Standardiser":
        """Return the standardiser of all instances of `bags`; a constant feature keeps its scale."""
        count = sum(len(bag) for bag in bags)
        mean = sum(bag.features.sum(0, dtype=np.float64) for bag in bags) / count
        squares = sum(
            np.square(rows - mean, dtype=np.float64).sum(0) for bag in bags for rows in chunks(bag.features)
        )
        scale = np.sqrt(squares / count)
        scale = np.where(scale > 1e-6 * np.abs(mean) + 1e-12, scale, 1.0)
        return cls(torch.tensor(mean, dtype=torch.float32), torch.tensor(scale, dtype=torch.float32))

    def __call__(self, features: Tensor) -> Tensor:
        """Return standardised float32 features, same shape."""
        return ((features.float() - self.mean) / self.scale).clamp(-_FARTHEST, _FARTHEST)


class InstanceHead(nn.Module):
    """Standardiser and nets as one map: features (n, D) -> the mean of the nets' margins (n, K)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, standardise: Standardiser, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.register_buffer("mean", standardise.mean)
        self.register_buffer("scale", standardise.scale)
        self.nets = nn.ModuleList(nets)

    def forward(self, features: Tensor) -> Tensor:
        """Return the margins of instances."""
        standard = ((features - self.mean) / self.scale).clamp(-_FARTHEST, _FARTHEST)
        return torch.stack([net(standard) for net in self.nets]).mean(0)


def chunks(features: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of `features` in pieces small enough for any machine."""
    for start in range(0, len(features), CHUNK):
        yield features[start : start + CHUNK]


@dataclass(frozen=True)
class PackedBags:
    """The instances of all bags in one matrix, bag after bag.

    `features` (N, D) in the dtype of the bags; `counts` and `starts` int64 (B,); `labels` int64 (B,), or
    bool (B, C) where the classes do not exclude each other; `candidates` bool (N, T), all true where a
    user has not annotated the instance, or None where none is.
    """

    features: Tensor
    counts: Tensor
    starts: Tensor
    labels: Tensor
    candidates: Tensor | None = None

    @classmethod
    def of(cls, bags: Sequence[Bag], labels: Labels) -> "PackedBags":
        """Return `bags` packed."""
        counts = torch.tensor([len(bag) for bag in bags])
        features = torch.from_numpy(np.concatenate([bag.features for bag in bags]))
        starts = counts.cumsum(0) - counts
        given = {i: bag.candidates for i, bag in enumerate(bags) if bag.candidates is not None}
        if not given:
            return cls(features, counts, starts, torch.tensor(labels))
        candidates = torch.ones(len(features), next(iter(given.values())).shape[1], dtype=torch.bool)
        for i, told in given.items():
            candidates[starts[i] : starts[i] + counts[i]] = torch.from_numpy(told)
        return cls(features, counts, starts, torch.tensor(labels), candidates)

    @cached_property
    def bag_of(self) -> Tensor:
        """Return the bag of each instance, int64 (N,)."""
        return torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)

    def rows_of(self, bags: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return rows of the instances of `bags` and their counts; of a huge bag `most` at random."""
        taken = self.counts[bags].clamp(max=most)
        ends = taken.cumsum(0)
        rows = torch.arange(int(taken.sum())) + (self.starts[bags] - ends + taken).repeat_interleave(taken)
        for k in torch.nonzero(self.counts[bags] > most)[:, 0].tolist():
            inside = torch.randperm(int(self.counts[bags[k]]), generator=generator)[:most]
            rows[ends[k] - most : ends[k]] = self.starts[bags[k]] + inside
        return rows, taken
