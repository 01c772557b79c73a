"""Of which kinds the witnesses of a fit are: each has as many seats as held-out bags give it."""

from collections.abc import Sequence
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
_FEWEST_BAGS = 30  # of fewer it cannot be told which witness or kind is better
_FEWEST_PATIENTS = 2 * _FOLDS  # nor, of fewer than these, how sure a slide may be
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
    margins = dict(zip(kinds, rehearsal.margins(kinds), strict=True))
    seats = [config.members]
    if len(kinds) > 1:
        errors = np.stack([rehearsal.errors(kind, own) for kind, own in margins.items()])
        z = standard_errors_worse(errors, rehearsal.patients)
        seats = shared_seats(np.exp(-_SHARPNESS_OF_SEATS * z), config.members)
    margins = {kind: margins[kind] for kind, n in zip(kinds, seats, strict=True) if n}
    if _can_compare(material):
        reading.weigh(margins, rehearsal.truth, rehearsal.patients)
    else:
        reading.weigh_alike(margins)
    reading.calibrate(margins, material)
    return [kind for kind, n in zip(kinds, seats, strict=True) for _ in range(n)]


def rehearsal_epochs(material: Material, config: InstanceConfig) -> int:
    """Return how many epochs of a fit come before those of its members."""
    if config.witnesses == "none" or _n_patients(material) < _FEWEST_PATIENTS:
        return 0
    return len(_kinds(material, config)) * _FOLDS * config.witness_epochs


def all_epochs(material: Material, config: InstanceConfig) -> int:
    """Return how many epochs a fit has."""
    return rehearsal_epochs(material, config) + config.members * config.member_epochs


def _kinds(material: Material, config: InstanceConfig) -> tuple[str, ...]:
    """Return the kinds that members may have."""
    if config.witnesses in KINDS:
        return (config.witnesses,)
    return KINDS if config.witnesses == "auto" and _can_compare(material) else KINDS[:1]


def _can_compare(material: Material) -> bool:
    return len(material.packed.counts) >= _FEWEST_BAGS and _n_patients(material) >= _FEWEST_PATIENTS


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

    @property
    def patients(self) -> np.ndarray:
        """Whose the bags are, int (B,)."""
        return self.material.packed.patients.numpy()

    def margins(self, kinds: Sequence[str]) -> Tensor:
        """Return the margins of each bag by witnesses of some kinds that have not seen it, (G, W, B, K)."""
        margins = torch.zeros(len(kinds), len(WITNESSES), len(self.fold), self.material.classes.n_positive)
        self.course.carry(rehearsed=margins)
        for place in range(len(kinds) * _FOLDS):
            number, k = divmod(place, _FOLDS)
            rehearse = partial(self._rehearse, margins[number], kinds[number], k, place)
            self.course.once(f"rehearsal {place}", rehearse)
        return margins

    def _rehearse(self, margins: Tensor, kind: str, k: int, place: int) -> None:
        """Teach witnesses on all bags but those of fold `k`, and set the margins (W, B, K) of these."""
        material, config = self.material, self.config
        new = (self.dim, material.classes.n_positive, kind, config.witness_hidden, config.tiles_per_bag)
        witnesses = Witnesses(*new, material.generator)
        self.course.carry(rehearsing=witnesses)
        told = {"epochs": all_epochs(material, config), "rehearsal": place}
        stage = self.course.stage(place * config.witness_epochs, **told)
        hear(witnesses, material, config, stage, torch.nonzero(self.fold != k)[:, 0])
        for bag in torch.nonzero(self.fold == k)[:, 0].tolist():
            margins[:, bag] = _told(witnesses, material, bag)

    def errors(self, kind: str, margins: Tensor) -> np.ndarray:
        """Return the squared error for each bag, (B,), of margins (W, B, K) that weigh the witnesses."""
        reading = Reading(len(WITNESSES), margins.shape[2])
        reading.weigh({kind: margins}, self.truth, self.patients)
        return squared_errors(reading({kind: margins}).numpy(), self.truth)


def _folds(material: Material) -> Tensor:
    """Return the fold of each bag, (B,), that of its patient, spread evenly by the last label these have."""
    _, label = material.packed.labels.unique(return_inverse=True, dim=0)
    patient_of = material.packed.patients
    label = torch.zeros(_n_patients(material), dtype=label.dtype).scatter_reduce(0, patient_of, label, "amax")
    fold, done = torch.empty_like(label), 0
    for each in label.unique():
        own = torch.nonzero(label == each)[:, 0]
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
