"""Of which kinds the witnesses of a fit are: each has as many seats as held-out bags give it."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mil.bag_term import is_of
from mil.course import Course
from mil.packed import CHUNK

from .config import KINDS, InstanceConfig
from .hearing import hear
from .material import Material
from .reading import Reading, squared_errors, standard_errors_worse
from .witness import WITNESSES, Witnesses

_FOLDS = 3
_FEWEST_PATIENTS = 30  # of fewer it cannot be told which witness or kind is better
_FEWEST_TO_PLACE = 2 * _FOLDS  # nor, of fewer than these, how sure a slide may be
_SHARPNESS_OF_SEATS = 0.5  # less than in a reading: the best for slides need not be so for tiles


def choose_kinds(
    reading: Reading, dim: int, material: Material, config: InstanceConfig, course: Course
) -> list[str]:
    """Return the kind of witnesses of each member; `reading` learns how much to heed them.

    It is decided by bag labels alone: each kind is taught on two thirds of the patients and asked for the
    others. One whose squared error is larger than the best one's by z standard errors of the paired
    difference has exp(-0.5 z) of its weight, and the members are shared out by weight.
    """
    kinds = _kinds(material, config)
    if not rehearsal_epochs(material, config):
        reading.trust(kinds)
        return [*kinds] * config.members
    fold = torch.tensor(course.once("fold of bags", lambda: _folds(material).tolist()))
    rehearsal = Rehearsal(dim, material, config, course, fold)
    margins = {kind: rehearsal.margins(kind, number) for number, kind in enumerate(kinds)}
    seats = [config.members]
    if len(kinds) > 1:
        errors = np.stack([rehearsal.errors(kind, own) for kind, own in margins.items()])
        seats = shared_seats(np.exp(-_SHARPNESS_OF_SEATS * standard_errors_worse(errors)), config.members)
    margins = {kind: margins[kind] for kind, n in zip(kinds, seats, strict=True) if n}
    if _n_patients(material) >= _FEWEST_PATIENTS:
        reading.weigh(margins, rehearsal.truth)
    else:
        reading.weigh_alike(margins)
    reading.calibrate(margins, material)
    return [kind for kind, n in zip(kinds, seats, strict=True) for _ in range(n)]


def rehearsal_epochs(material: Material, config: InstanceConfig) -> int:
    """Return how many epochs of a fit come before those of its members."""
    if config.witnesses == "none" or _n_patients(material) < _FEWEST_TO_PLACE:
        return 0
    return len(_kinds(material, config)) * _FOLDS * config.witness_epochs


def all_epochs(material: Material, config: InstanceConfig) -> int:
    """Return how many epochs a fit has."""
    return rehearsal_epochs(material, config) + config.members * config.member_epochs


def _kinds(material: Material, config: InstanceConfig) -> tuple[str, ...]:
    """Return the kinds that members may have."""
    if config.witnesses in KINDS:
        return (config.witnesses,)
    can_compare = config.witnesses == "auto" and _n_patients(material) >= _FEWEST_PATIENTS
    return KINDS if can_compare else KINDS[:1]


def _n_patients(material: Material) -> int:
    return int(material.packed.patients.max()) + 1


def shared_seats(weight: np.ndarray, n_seats: int) -> list[int]:
    """Return how many of `n_seats` each has by its `weight` (G,), as Sainte-Laguë counts."""
    seats = np.zeros(len(weight), int)
    for _ in range(n_seats):
        seats[np.argmax(weight / (2 * seats + 1))] += 1
    return seats.tolist()


@dataclass(frozen=True)
class Rehearsal:
    """What witnesses tell of bags that are left out of their training, each in one `fold` (B,)."""

    dim: int
    material: Material
    config: InstanceConfig
    course: Course
    fold: Tensor

    @property
    def truth(self) -> np.ndarray:
        """Of which classes the bags are, bool (B, C)."""
        return is_of(self.material.packed.labels, len(self.material.classes.names)).numpy()

    def margins(self, kind: str, number: int) -> Tensor:
        """Return the margins of each bag, (W, B, K), by witnesses that have not seen it.

        They are of a `kind`, the one of this `number` that is asked.
        """
        margins = torch.empty(len(WITNESSES), len(self.fold), self.material.classes.n_positive)
        for k in range(_FOLDS):
            place = number * _FOLDS + k
            told = self.course.once(f"rehearsal {place}", partial(self._told_of, kind, k, place))
            margins[:, self.fold == k] = torch.tensor(told)
        return margins

    def _told_of(self, kind: str, k: int, place: int) -> list[list[list[float]]]:
        """Return the margins of the bags of fold `k` by witnesses taught on the others: W of B' of K."""
        material, config = self.material, self.config
        new = (self.dim, material.classes.n_positive, kind, config.witness_hidden, config.tiles_per_bag)
        witnesses = Witnesses(*new, material.generator)
        self.course.carry(rehearsing=witnesses)
        told = {"epochs": all_epochs(self.material, config), "rehearsal": place}
        stage = self.course.stage(place * config.witness_epochs, **told)
        hear(witnesses, material, config, stage, torch.nonzero(self.fold != k)[:, 0])
        unseen = torch.nonzero(self.fold == k)[:, 0].tolist()
        return torch.stack([_told(witnesses, material, bag) for bag in unseen], dim=1).tolist()

    def errors(self, kind: str, margins: Tensor) -> np.ndarray:
        """Return the squared error for each bag, (B,), of margins (W, B, K) that weigh the witnesses."""
        reading = Reading(len(WITNESSES), margins.shape[2])
        reading.weigh({kind: margins}, self.truth)
        return squared_errors(reading({kind: margins}).numpy(), self.truth)


def _folds(material: Material) -> Tensor:
    """Return the fold of each bag, (B,), that of its patient; labels of first bags are spread evenly."""
    _, label = material.packed.labels.unique(return_inverse=True, dim=0)
    patient_of = material.packed.patients
    numbers, last = torch.arange(len(label)), torch.full((_n_patients(material),), len(label))
    first = last.scatter_reduce(0, patient_of, numbers, "amin")
    fold, done = torch.empty_like(first), 0
    for each in label.unique():
        own = torch.nonzero(label[first] == each)[:, 0]
        places = torch.arange(done, done + len(own)) % _FOLDS
        fold[own[torch.randperm(len(own), generator=material.generator)]] = places
        done += len(own)
    return fold[patient_of]


@torch.no_grad()
def _told(witnesses: Witnesses, material: Material, bag: int) -> Tensor:
    packed = material.packed
    start, count = int(packed.starts[bag]), int(packed.counts[bag])
    parts = [witnesses(material.rows(rows)) for rows in torch.arange(start, start + count).split(CHUNK)]
    told = witnesses.heeded(material, torch.tensor([bag]))
    return witnesses.read_each(torch.cat(parts, dim=1), packed.counts[bag][None], told)[:, 0]
