"""Batches of views in an order that seed and step tell, whoever makes them and wherever one begins."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import gcd

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from tiling import SlidebagError, SlideError

from .config import PretrainConfig
from .sources import Tiles
from .views import Views

_TRIES = 16  # of a tile, and others in its place where it cannot be read
_FAR = 0.618  # of all tiles, from one to the next that is tried: the golden section spreads few evenly


@dataclass(frozen=True)
class Batch:
    """Views of some tiles: `views`, uint8 (n, 3, side, side) each, and the tiles' places in training.

    `broken` says by name what another tile stands for.
    """

    epoch: int
    places: list[int]
    views: list[torch.Tensor]
    broken: dict[str, str]


def take_readable(
    tiles: Tiles, trained: np.ndarray, place: int, broken: dict[str, str]
) -> tuple[int, np.ndarray]:
    """Return the index and the pixels of the tile at a place, or of another one where it cannot be read.

    `trained` are the indices of tiles to learn from, int (n,). The other lies far away, as a whole slide may
    be lost; `broken` is told by name what cannot be read.

    Raises:
        SlideError: the others cannot be read either.
    """
    n, lost = len(trained), {}
    stride = next(k for k in count(round(_FAR * n)) if gcd(k, n) == 1)  # so that none is tried twice
    for k in range(min(_TRIES, n)):
        index = int(trained[(place + k * stride) % n])
        try:
            pixels = tiles.take(index)
        except SlidebagError as error:
            lost[tiles.name(index)] = str(error)
        else:
            broken.update(lost)
            return index, pixels
    name, why = next(iter(lost.items()))
    raise SlideError(
        f"{name} and {len(lost) - 1} others in its place cannot be read ({why})",
        hint="see whether files are gone",
    )


@dataclass(frozen=True)
class _Drawn(Dataset):
    """Makes the views of (epoch, place); what a worker process needs and nothing else."""

    tiles: Tiles
    trained: np.ndarray
    views: Views

    def __getitem__(self, asked: tuple[int, int]) -> tuple[int, int, list[torch.Tensor], dict[str, str]]:
        epoch, place = asked
        broken: dict[str, str] = {}
        index, pixels = take_readable(self.tiles, self.trained, place, broken)
        return epoch, place, self.views(pixels, epoch, index), broken


def _collate(parts: list[tuple[int, int, list[torch.Tensor], dict[str, str]]]) -> Batch:
    epochs, places, images, broken = zip(*parts, strict=True)
    told = {name: why for each in broken for name, why in each.items()}
    return Batch(epochs[0], list(places), [torch.stack(each) for each in zip(*images, strict=True)], told)


@dataclass(frozen=True)
class Order(Sampler):
    """The (epoch, place) of each batch of this process, from a step on: every epoch another order of all."""

    n: int
    config: PretrainConfig
    first_step: int = 0
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches alone."""
        return self.n // self.config.batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        config, per_epoch = self.config, self.steps_per_epoch
        order, of_epoch = np.arange(0), -1
        for step in range(self.first_step, config.epochs * per_epoch):
            epoch, k = divmod(step, per_epoch)
            if epoch != of_epoch:
                order = np.random.default_rng((config.seed, epoch)).permutation(self.n)
                of_epoch = epoch
            places = order[k * config.batch : (k + 1) * config.batch][self.rank :: self.world]
            yield [(epoch, int(place)) for place in places]


def batches(tiles: Tiles, trained: np.ndarray, order: Order, n_workers: int) -> Iterator[Batch]:
    """Yield the batches of `order`; `trained` are the indices of tiles to learn from, int (n,)."""
    loader = DataLoader(
        _Drawn(tiles, trained, Views(order.config)),
        batch_sampler=order,
        num_workers=n_workers,
        collate_fn=_collate,
        # a forked process would share the open slides of this one
        multiprocessing_context="spawn" if n_workers else None,
    )
    yield from loader
