"""How witnesses are taught, and which kind of them: a richer one has to earn its place on held-out bags."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mil.bag_term import annotation_loss, is_of
from mil.course import Course, Stage
from mil.packed import CHUNK

from .config import KINDS, InstanceConfig
from .material import Material
from .reading import Reading, squared_errors
from .witness import WITNESSES, Witnesses

_RATE_AND_DECAY = {"linear": (0.02, 0.1), "hidden": (0.007, 0.5), "context": (0.007, 0.5)}  # of AdamW
_FOLDS = 3
_FEWEST_BAGS = 30  # of fewer it cannot be told which witness or kind is better
_FEWEST_TO_PLACE = 2 * _FOLDS  # nor, of fewer than these, how sure a slide may be
_LEAST_GAIN = 0.005  # of an error that is 0.25 where nothing is known
_STANDARD_ERRORS = 1.5  # by which a richer kind must be better


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


def choose_kind(reading: Reading, dim: int, material: Material, config: InstanceConfig) -> str:
    """Return the simplest kind of witnesses that no other beats on held-out bags; `reading` learns of them.

    It is decided by bag labels alone: each kind is taught on two thirds of the bags and asked for the
    others. A richer one is taken if its squared error is less by one and a half standard errors.
    """
    kind = KINDS[0] if config.witnesses in ("auto", "none") else config.witnesses
    n_bags = len(material.packed.counts)
    if config.witnesses == "none" or n_bags < _FEWEST_TO_PLACE:
        return kind
    rehearsal, margins = Rehearsal(dim, material, config, _folds(material)), None
    can_compare = n_bags >= _FEWEST_BAGS
    if can_compare and config.witnesses == "auto":
        few = max(1, config.tiles_per_bag // 4)  # tiles of a bag are enough to compare kinds by
        kind, margins = _simplest_unbeaten(replace(rehearsal, config=replace(config, tiles_per_bag=few)))
        if material.packed.counts.max() > few:
            margins = None  # they are not enough to weigh poolings by
    if margins is None:
        margins = rehearsal.margins(kind)
    if can_compare:
        reading.weigh(margins, rehearsal.truth)
    else:
        reading.place(margins)
    reading.calibrate(margins, material)
    return kind


def _simplest_unbeaten(rehearsal: "Rehearsal") -> tuple[str, Tensor]:
    """Return the kind and the margins that it gives held-out bags."""
    kind, margins = KINDS[0], rehearsal.margins(KINDS[0])
    least = rehearsal.errors(margins)
    for other in KINDS[1:]:
        others = rehearsal.margins(other)
        errors = rehearsal.errors(others)
        gain = least - errors
        if gain.mean() > max(_LEAST_GAIN, _STANDARD_ERRORS * gain.std() / len(gain) ** 0.5):
            kind, margins, least = other, others, errors
    return kind, margins


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

    def errors(self, margins: Tensor) -> np.ndarray:
        """Return the squared error for each bag, (B,), of margins (W, B, K) that weigh the witnesses."""
        reading = Reading(len(WITNESSES), margins.shape[2])
        reading.weigh(margins, self.truth)
        return squared_errors(reading(margins).numpy(), self.truth)


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
