"""What a fit learns from: the packed bags, read a few rows at a time, and one generator for all chance."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mil.bag_term import Balance, candidates_of
from mil.classes import Classes
from mil.packed import CHUNK, PackedBags, Standardiser

from .context import summary


@dataclass(frozen=True)
class Material:
    """Bags, labels and what is known of each instance; features are standardised where they are used."""

    packed: PackedBags
    standardise: Standardiser
    classes: Classes
    balance: Balance
    generator: torch.Generator

    @cached_property
    def candidates(self) -> Tensor:
        """Return which classes each instance may have by label and annotation, bool (N, T)."""
        of_bags = candidates_of(self.packed.labels, self.classes)
        candidates = of_bags.repeat_interleave(self.packed.counts, dim=0)
        return candidates if self.packed.candidates is None else candidates & self.packed.candidates

    @property
    def sets(self) -> Tensor:
        """Return a number for the candidates of each instance, int64 (N,): the same of equal ones alone."""
        return self.candidates.long() @ 2 ** torch.arange(self.candidates.shape[1])

    @cached_property
    def annotated(self) -> Tensor:
        """Return the rows that a user has annotated, int64."""
        told = self.packed.candidates
        return torch.zeros(0, dtype=torch.int64) if told is None else torch.nonzero(~told.all(1))[:, 0]

    @cached_property
    def summaries(self) -> Tensor:
        """Return the summary of each bag, (B, 2 D)."""
        # in one place from the start: small results between large ones would keep those from being given back
        of_bags = torch.empty(len(self.packed.counts), 2 * self.packed.features.dim)
        for bag, (start, count) in enumerate(zip(self.packed.starts, self.packed.counts, strict=True)):
            parts = torch.arange(int(start), int(start + count)).split(CHUNK)
            of_bags[bag] = sum(summary(self.rows(part)) * len(part) for part in parts) / int(count)
        return of_bags

    def rows(self, rows: Tensor) -> Tensor:
        """Return the features of some rows (B,): float32 (B, D)."""
        return self.standardise(self.packed.take(rows))

    def plain(self, rows: Tensor) -> Tensor | None:
        """Return the features of some rows (B, D) where there are no views to draw from, else None."""
        return self.rows(rows) if self.packed.views is None else None

    def drawn(self, rows: Tensor) -> Tensor:
        """Return for some rows (B,) the features or one of their views: float32 (B, D)."""
        return self.standardise(self.packed.draw(rows, self.generator))

    def read_all(self, net: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what `net` makes of the features of all rows, some at a time: (..., N, K)."""
        found = torch.empty(0)
        for part in torch.arange(len(self.packed.features)).split(CHUNK):
            told = net(self.rows(part))
            if not found.numel():
                found = told.new_empty(*told.shape[:-2], len(self.packed.features), told.shape[-1])
            found[..., part[0] : part[-1] + 1, :] = told
        return found

    def some_bags(self, n: int, most_tiles: int, among: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `n` bags `among` some: rows, counts, and which bags; of a huge one `most_tiles`."""
        chosen = among[torch.randperm(len(among), generator=self.generator)[:n]]
        rows, counts = self.packed.rows_of(chosen, most_tiles, self.generator)
        return rows, counts, chosen
