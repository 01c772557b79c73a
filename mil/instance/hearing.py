"""How witnesses are taught, and of which kinds: each has as many seats as held-out bags give it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mil.bag_term import annotation_loss, is_of
from mil.course import Course, Stage
from mil.packed import CHUNK

from .config import KINDS, InstanceConfig
from .material import Material
from .reading import Reading, squared_errors, standard_errors_worse
from .witness import WITNESSES, Witnesses

_RATE_AND_DECAY = {"linear": (0.02, 0.1), "hidden": (0.007, 0.5), "context": (0.007, 0.5)}  # of AdamW
_FOLDS = 3
_FEWEST_BAGS = 30  # of fewer it cannot be told which witness or kind is better
_FEWEST_TO_PLACE = 2 * _FOLDS  # nor, of fewer than these, how sure a slide may be
_SHARPNESS_OF_SEATS = 0.5  # less than in a reading: the best for slides need not be so for tiles


def hear(
    witnesses: Witnesses, material: Material, config: InstanceConfig, stage: Stage, among: Tensor
) -> None:
    """Let the witnesses learn from the labels of the bags `among` all (indices)."""
    witnesses.begin(material, among)
    optimizer = _optimizer(witnesses)
    annotated = material.annotated[torch.isin(material.packed.bag_of[material.annotated], among)]
    n_steps = config.witness_epochs * config.steps_per_epoch
    # full steps in the first half, smaller and smaller ones in the second
    slowing = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, 2 * (1 - i / n_steps)))
    for epoch in stage.epochs(config.witness_epochs, optimizer=optimizer, slowing=slowing):
        losses, seen = [], 0
        for _ in range(config.steps_per_epoch):
            rows, counts, bags = material.some_bags(config.bags_per_step, config.tiles_per_bag, among)
            loss = witnesses.loss(material, rows, counts, bags)
            if len(annotated):
                loss = loss + _annotation_term(witnesses, material, annotated, config.tiles_per_bag)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            slowing.step()
            losses.append(loss.item())
            seen += len(rows)
        stage.report({"epoch": epoch, "instances": seen, "bag_loss": float(np.mean(losses))})


def _optimizer(witnesses: Witnesses) -> torch.optim.Optimizer:
    """Weights are pulled to zero, offsets are not: that of a rare class is far below zero."""
    rate, decay = _RATE_AND_DECAY[witnesses.kind]
    everything = list(witnesses.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in everything if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in everything if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=rate,
        fused=True,
    )


def choose_kinds(reading: Reading, dim: int, material: Material, config: InstanceConfig) -> list[str]:
    """Return the kind of witnesses of each member; `reading` learns how much to heed them.

    It is decided by bag labels alone: each kind is taught on two thirds of the bags and asked for the
    others. One whose squared error is larger than the best one's by z standard errors of the paired
    difference has exp(-0.5 z) of its weight, and the members are shared out by weight.
    """
    n_bags = len(material.packed.counts)
    can_compare = n_bags >= _FEWEST_BAGS
    if config.witnesses in KINDS:
        kinds = (config.witnesses,)
    else:
        kinds = KINDS if config.witnesses == "auto" and can_compare else KINDS[:1]
    if config.witnesses == "none" or n_bags < _FEWEST_TO_PLACE:
        reading.trust(kinds)
        return [*kinds] * config.members
    rehearsal = Rehearsal(dim, material, config, _folds(material))
    margins = {kind: rehearsal.margins(kind) for kind in kinds}
    seats = [config.members]
    if len(kinds) > 1:
        errors = np.stack([rehearsal.errors(kind, own) for kind, own in margins.items()])
        seats = shared_seats(np.exp(-_SHARPNESS_OF_SEATS * standard_errors_worse(errors)), config.members)
    margins = {kind: margins[kind] for kind, n in zip(kinds, seats, strict=True) if n}
    if can_compare:
        reading.weigh(margins, rehearsal.truth)
    else:
        reading.weigh_alike(margins)
    reading.calibrate(margins, material)
    return [kind for kind, n in zip(kinds, seats, strict=True) for _ in range(n)]


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
    fold: Tensor

    @property
    def truth(self) -> np.ndarray:
        """Of which classes the bags are, bool (B, C)."""
        return is_of(self.material.packed.labels, len(self.material.classes.names)).numpy()

    def margins(self, kind: str) -> Tensor:
        """Return the margins of each bag, (W, B, K), by witnesses of a kind that have not seen it."""
        material, n_margins = self.material, self.material.classes.n_positive
        margins = torch.empty(len(WITNESSES), len(self.fold), n_margins)
        new = (self.dim, n_margins, kind, self.config.witness_hidden, self.config.tiles_per_bag)
        for k in range(_FOLDS):
            witnesses = Witnesses(*new, material.generator)
            seen, unseen = torch.nonzero(self.fold != k)[:, 0], torch.nonzero(self.fold == k)[:, 0]
            hear(witnesses, material, self.config, Stage(Course()), seen)
            for bag in unseen.tolist():
                margins[:, bag] = _told(witnesses, material, bag)
        return margins

    def errors(self, kind: str, margins: Tensor) -> np.ndarray:
        """Return the squared error for each bag, (B,), of margins (W, B, K) that weigh the witnesses."""
        reading = Reading(len(WITNESSES), margins.shape[2])
        reading.weigh({kind: margins}, self.truth)
        return squared_errors(reading({kind: margins}).numpy(), self.truth)


def _folds(material: Material) -> Tensor:
    """Return the fold of each bag, (B,), each label spread evenly."""
    _, label = material.packed.labels.unique(return_inverse=True, dim=0)
    fold, done = torch.empty_like(label), 0
    for each in label.unique():
        own = torch.nonzero(label == each)[:, 0]
        places = torch.arange(done, done + len(own)) % _FOLDS
        fold[own[torch.randperm(len(own), generator=material.generator)]] = places
        done += len(own)
    return fold


@torch.no_grad()
def _told(witnesses: Witnesses, material: Material, bag: int) -> Tensor:
    packed = material.packed
    start, count = int(packed.starts[bag]), int(packed.counts[bag])
    parts = [witnesses(material.rows(rows)) for rows in torch.arange(start, start + count).split(CHUNK)]
    told = witnesses.heeded(material, torch.tensor([bag]))
    return witnesses.read_each(torch.cat(parts, dim=1), packed.counts[bag][None], told)[:, 0]


def _annotation_term(witnesses: Witnesses, material: Material, annotated: Tensor, n: int) -> Tensor:
    rows = annotated[torch.randint(len(annotated), (n,), generator=material.generator)]
    margins = witnesses(material.rows(rows))
    return torch.stack([annotation_loss(each, material.candidates[rows]) for each in margins]).sum()
