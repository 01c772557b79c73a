"""How witnesses are taught, and which kind of them: a richer one has to earn its place on held-out bags."""

import numpy as np
import torch
from torch import Tensor

from mil.bag_term import annotation_loss, is_of, slide_log_probability
from mil.learner import Report

from .config import KINDS, InstanceConfig
from .material import Material
from .witness import Witnesses

_FOLDS = 3
_FEWEST_BAGS = 30  # of fewer nothing can be told
_STANDARD_ERRORS = 1.5  # by which a richer kind must be better


def hear(
    witnesses: Witnesses, material: Material, config: InstanceConfig, report: Report, among: Tensor
) -> None:
    """Let the witnesses learn from the labels of the bags `among` all (indices)."""
    witnesses.begin(material.packed, config.tiles_per_bag, material.summaries[among])
    optimizer = torch.optim.AdamW(
        witnesses.parameters(), lr=config.witness_rate, weight_decay=config.witness_decay
    )
    n_steps = config.witness_epochs * config.steps_per_epoch
    # full steps in the first half, smaller and smaller ones in the second
    slowing = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, 2 * (1 - i / n_steps)))
    for epoch in range(config.witness_epochs):
        losses, seen = [], 0
        for _ in range(config.steps_per_epoch):
            rows, counts, bags = material.some_bags(config.bags_per_step, config.tiles_per_bag, among)
            loss = witnesses.loss(material, rows, counts, bags)
            if len(material.annotated):
                loss = loss + _annotation_term(witnesses, material, config.tiles_per_bag)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            slowing.step()
            losses.append(loss.item())
            seen += len(rows)
        report({"epoch": epoch, "instances": seen, "bag_loss": float(np.mean(losses))})
    witnesses.settle(material)


def choose_kind(dim: int, material: Material, config: InstanceConfig) -> str:
    """Return the simplest kind of witnesses that no other beats on bags left out of their training.

    It is decided by bag labels alone: each kind is taught on two thirds of the bags and asked for the
    others. A richer one is taken if its squared error is less by one and a half standard errors.
    """
    if config.witnesses != "auto":
        return KINDS[0] if config.witnesses == "none" else config.witnesses
    fold = _folds(material)
    if len(fold) < _FEWEST_BAGS:
        return KINDS[0]
    best, least = KINDS[0], _held_out_errors(KINDS[0], dim, material, config, fold)
    for kind in KINDS[1:]:
        errors = _held_out_errors(kind, dim, material, config, fold)
        gain = least - errors
        if gain.mean() > _STANDARD_ERRORS * gain.std() / len(gain) ** 0.5:
            best, least = kind, errors
    return best


def _folds(material: Material) -> Tensor:
    """Return the fold of each bag, (B,), each label spread evenly."""
    _, label = material.packed.labels.unique(return_inverse=True, dim=0)
    fold = torch.empty_like(label)
    for each in label.unique():
        own = torch.nonzero(label == each)[:, 0]
        fold[own[torch.randperm(len(own), generator=material.generator)]] = torch.arange(len(own)) % _FOLDS
    return fold


def _held_out_errors(kind: str, dim: int, material: Material, config: InstanceConfig, fold: Tensor) -> Tensor:
    """Return the squared error of the probabilities of each bag by witnesses that have not seen it, (B,)."""
    errors = torch.empty(len(fold))
    truth = is_of(material.packed.labels, len(material.classes.names)).float()
    for k in range(_FOLDS):
        new = (dim, material.classes.n_positive, kind, config.witness_hidden, material.generator)
        witnesses = Witnesses(*new)
        hear(witnesses, material, config, lambda figures: None, torch.nonzero(fold != k)[:, 0])
        for bag in torch.nonzero(fold == k)[:, 0]:
            errors[bag] = (_told(witnesses, material, bag) - truth[bag]).square().sum()
    weight = (truth / truth.mean(0).clamp(min=1e-6)).sum(1)
    return errors * weight / weight.mean()


@torch.no_grad()
def _told(witnesses: Witnesses, material: Material, bag: Tensor) -> Tensor:
    packed = material.packed
    rows = torch.arange(int(packed.starts[bag]), int(packed.starts[bag] + packed.counts[bag]))
    pooled = witnesses.read_bags(
        witnesses(material.rows(rows)), packed.counts[bag][None], material.summaries[bag][None]
    )
    return slide_log_probability(pooled, material.classes, material.balance).exp()[0]


def _annotation_term(witnesses: Witnesses, material: Material, n: int) -> Tensor:
    rows = material.annotated[torch.randint(len(material.annotated), (n,), generator=material.generator)]
    margins = witnesses(material.rows(rows))
    return torch.stack([annotation_loss(each, material.candidates[rows]) for each in margins]).sum()
