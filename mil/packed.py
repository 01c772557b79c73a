"""All training bags as one matrix that is nowhere copied, and the standardising by their own figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from features import Instances

from .bag import Bag
from .classes import Labels

_FARTHEST = 4.0  # in units of the scale: a heavy tail must not outshout all others
_FEW = 512  # instances whose numbers stay in the processor's caches
CHUNK = 4096  # instances looked at at once: a slide of 100,000 tiles never needs more memory


@dataclass(frozen=True)
class Standardiser:
    """Brings features to zero mean and unit variance: `mean` and `scale` float32 (D,).

    A feature that is zero more often than most, such as a pixel of a dark border, is made smaller by as
    much, or it would outshout all others where it is not zero.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, bags: Sequence[Bag]) -> "Standardiser":
        """Return the standardiser of all instances of `bags`; a constant feature keeps its scale."""
        count = sum(len(bag) for bag in bags)
        mean = sum(bag.features.sum(0, dtype=np.float64) for bag in bags) / count
        squares, n_there = np.zeros_like(mean), np.zeros_like(mean)
        for rows in (rows for bag in bags for rows in chunks(bag.features, _FEW)):
            squares += np.square(rows - mean).sum(0)
            n_there += np.count_nonzero(rows, axis=0)
        scale = np.sqrt(squares / count)
        varies = scale > 1e-6 * np.abs(mean) + 1e-12
        there = np.maximum(n_there, 1) / count
        usual = there[varies].mean() if varies.any() else 1.0
        scale = np.where(varies, scale * np.sqrt(np.maximum(1.0, usual / there)), 1.0)
        return cls(torch.tensor(mean, dtype=torch.float32), torch.tensor(scale, dtype=torch.float32))

    def __call__(self, features: Tensor) -> Tensor:
        """Return standardised float32 features, same shape."""
        own = torch.empty(features.shape)
        for standard, raw in zip(own.split(_FEW), features.split(_FEW), strict=True):
            standard.copy_(raw).sub_(self.mean).div_(self.scale).clamp_(-_FARTHEST, _FARTHEST)
        return own

    def parts(self, features: np.ndarray) -> Iterator[Tensor]:
        """Yield standardised float32 features, at most so many rows at a time as any machine holds."""
        for rows in chunks(features):
            yield self(torch.from_numpy(np.array(rows)))  # of a mapped file, which torch must not write to


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


def chunks(features: np.ndarray, most: int = CHUNK) -> Iterator[np.ndarray]:
    """Yield the rows of `features` in pieces small enough for any machine."""
    for start in range(0, len(features), most):
        yield features[start : start + most]


@dataclass(frozen=True)
class PackedBags:
    """The instances of all bags as one matrix, bag after bag, whose rows stay where the bags have them.

    `features` are N rows of D in the dtype of the bags, in memory or in mapped files; `counts` and
    `starts` int64 (B,); `labels` int64 (B,), or bool (B, C) where the classes do not exclude each other;
    `patients` int64 (B,), the same number for bags of one patient; `views` those of all instances, if any;
    `candidates` bool (N, T), all true where a user has not annotated the instance, or None where none is.
    """

    features: Instances
    counts: Tensor
    starts: Tensor
    labels: Tensor
    patients: Tensor
    candidates: Tensor | None = None
    views: "Views | None" = None

    @classmethod
    def of(cls, bags: Sequence[Bag], labels: Labels) -> "PackedBags":
        """Return `bags` packed; rows that do not lie one after the other, or of two dtypes, are copied."""
        counts = torch.tensor([len(bag) for bag in bags])
        dtype = np.result_type(*{bag.features.dtype for bag in bags})
        pieces = [np.ascontiguousarray(bag.features, dtype) for bag in bags]
        offsets = np.concatenate([np.zeros(1, np.int64), counts.cumsum(0).numpy()])
        features = Instances(pieces, offsets, np.broadcast_to(np.False_, offsets[-1:]))
        starts = counts.cumsum(0) - counts
        views = Views.of(bags, starts, dtype) if any(bag.views is not None for bag in bags) else None
        known = (features, counts, starts, torch.tensor(labels), _patients_of(bags))
        given = {i: bag.candidates for i, bag in enumerate(bags) if bag.candidates is not None}
        if not given:
            return cls(*known, views=views)
        candidates = torch.ones(len(features), next(iter(given.values())).shape[1], dtype=torch.bool)
        for i, told in given.items():
            candidates[starts[i] : starts[i] + counts[i]] = torch.from_numpy(told)
        return cls(*known, candidates, views)

    def take(self, rows: Tensor) -> Tensor:
        """Return the features of some rows (n,): (n, D) in the dtype of the bags."""
        return torch.from_numpy(self.features.rows(rows.numpy()))

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return for some rows (n,) the features or one of their views, evenly: (n, D) like `take`."""
        return self.take(rows) if self.views is None else self.views.mixed(rows, self.take(rows), generator)

    @property
    def n_views(self) -> int:
        """Return how many views there are of a tile, on average over the bags."""
        return 0 if self.views is None else round(float(self.views.n_views.float().mean()))

    @property
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


@dataclass(frozen=True)
class Views:
    """Augmented views of the instances of bags, bag after bag, whose rows stay where the bags have them.

    Bag b has `n_views[b]` of each instance, int64 (B,), from row `first[b]` on; its instances begin with
    row `starts[b]` of all.
    """

    features: Instances
    n_views: Tensor
    first: Tensor
    starts: Tensor

    @classmethod
    def of(cls, bags: Sequence[Bag], starts: Tensor, dtype: np.dtype) -> "Views":
        """Return the views of `bags`, some of which may have none; those of another dtype are copied."""
        given = [None if bag.views is None else np.ascontiguousarray(bag.views, dtype) for bag in bags]
        pieces = [
            bag.features[:0].astype(dtype) if views is None else views.reshape(-1, views.shape[2])
            for bag, views in zip(bags, given, strict=True)
        ]
        ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0)
        offsets = np.concatenate([np.zeros(1, np.int64), ends.numpy()])
        features = Instances(pieces, offsets, np.broadcast_to(np.False_, offsets[-1:]))
        n_views = torch.tensor([0 if views is None else views.shape[1] for views in given])
        return cls(features, n_views, torch.from_numpy(offsets[:-1]), starts)

    def mixed(self, rows: Tensor, plain: Tensor, generator: torch.Generator) -> Tensor:
        """Put one of its views in the place of some of the `plain` rows (n, D) of instances `rows` (n,)."""
        bag = torch.searchsorted(self.starts, rows, right=True) - 1
        n_views = self.n_views[bag]
        drawn = (torch.rand(len(rows), generator=generator) * (n_views + 1)).long().minimum(n_views)
        of = self.first[bag] + (rows - self.starts[bag]) * n_views + drawn - 1
        at = torch.nonzero(drawn)[:, 0]  # 0 is the plain one
        plain[at] = torch.from_numpy(self.features.rows(of[at].numpy()))
        return plain


def _patients_of(bags: Sequence[Bag]) -> Tensor:
    numbers: dict[tuple[str, str | int], int] = {}
    keys = [("bag", i) if bag.patient is None else ("patient", bag.patient) for i, bag in enumerate(bags)]
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])
