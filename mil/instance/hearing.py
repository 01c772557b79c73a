"""How witnesses are taught, and which kind of them: a richer one has to earn its place on held-out bags."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mil.bag_term import annotation_loss, is_of
from mil.course import Course, Stage
from mil.packed import CHUNK

from .config import KINDS, InstanceConfig
from .material import Material
from .witness import Witnesses

_RATE_AND_DECAY = {"linear": (0.02, 0.1), "hidden": (0.007, 0.5), "context": (0.007, 0.5)}  # of AdamW
_FOLDS = 3
_FEWEST_BAGS = 30  # of fewer nothing can be told
_LEAST_GAIN = 0.005  # of an error that is 0.25 where nothing is known
_STANDARD_ERRORS = 1.5  # by which a richer kind must be better


def hear(
    witnesses: Witnesses, material: Material, config: InstanceConfig, stage: Stage, among: Tensor
) -> None:
    """Let the witnesses learn from the labels of the bags `among` all (indices)."""
    witnesses.begin(material.packed, material.summaries[among])
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
    witnesses.settle(material)


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
    )


def choose_kind(dim: int, material: Material, config: InstanceConfig) -> str:
    """Return the simplest kind of witnesses that no other beats on bags left out of their training.

    It is decided by bag labels alone: each kind is taught on two thirds of the bags and asked for the
    others. A richer one is taken if its squared error is less by one and a half standard errors.
    """
    if config.witnesses != "auto":
        return KINDS[0] if config.witnesses == "none" else config.witnesses
    fold = _folds(material)
    config = replace(config, tiles_per_bag=max(1, config.tiles_per_bag // 4))  # enough to compare by
    if len(fold) < _FEWEST_BAGS:
        return KINDS[0]
    best, least = KINDS[0], _held_out_errors(KINDS[0], dim, material, config, fold)
    for kind in KINDS[1:]:
        errors = _held_out_errors(kind, dim, material, config, fold)
        gain = least - errors
        if gain.mean() > max(_LEAST_GAIN, _STANDARD_ERRORS * gain.std() / len(gain) ** 0.5):
            best, least = kind, errors
    return best


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


def _held_out_errors(kind: str, dim: int, material: Material, config: InstanceConfig, fold: Tensor) -> Tensor:
    """Return the squared error for each bag, (B,), by witnesses that have not seen it.

    Their margins are put on one scale first: how sure they are of themselves is not what is asked.
    """
    margins = torch.empty(len(fold), material.classes.n_positive)
    for k in range(_FOLDS):
        new = (
            dim,
            material.classes.n_positive,
            kind,
            config.witness_hidden,
            config.tiles_per_bag,
            material.generator,
        )
        witnesses = Witnesses(*new)
        hear(witnesses, material, config, Stage(Course()), torch.nonzero(fold != k)[:, 0])
        for bag in torch.nonzero(fold == k)[:, 0].tolist():
            margins[bag] = _told(witnesses, material, bag)
    truth = is_of(material.packed.labels, len(material.classes.names))
    return torch.from_numpy(squared_errors(margins.numpy(), truth.numpy()))


def squared_errors(margins: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the squared errors of bags, (B,), of the best probabilities that margins (B, K) give.

    `truth` bool (B, C) says of which classes they are; the classes weigh the same.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    scaled = (margins - margins.mean(0)) / np.maximum(margins.std(0), 1e-6)
    errors = np.zeros(len(margins))
    for is_of_class in truth.T[-margins.shape[1] :]:
        if is_of_class.all() or not is_of_class.any():
            continue
        line = LogisticRegression(class_weight="balanced").fit(scaled, is_of_class)
        share = is_of_class.mean()
        weight = np.where(is_of_class, 0.5 / share, 0.5 / (1 - share))
        errors += weight * (line.predict_proba(scaled)[:, 1] - is_of_class) ** 2
    return errors


@torch.no_grad()
def _told(witnesses: Witnesses, material: Material, bag: int) -> Tensor:
    packed = material.packed
    start, count = int(packed.starts[bag]), int(packed.counts[bag])
    parts = [witnesses(material.rows(rows)) for rows in torch.arange(start, start + count).split(CHUNK)]
    told = material.summaries[bag][None]
    return witnesses.read_bags(torch.cat(parts, dim=1), packed.counts[bag][None], told)[0]


def _annotation_term(witnesses: Witnesses, material: Material, annotated: Tensor, n: int) -> Tensor:
    rows = annotated[torch.randint(len(annotated), (n,), generator=material.generator)]
    margins = witnesses(material.rows(rows))
    return torch.stack([annotation_loss(each, material.candidates[rows]) for each in margins]).sum()
