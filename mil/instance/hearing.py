"""How witnesses are taught: by the labels of bags, and by what a user has annotated."""

import numpy as np
import torch
from torch import Tensor

from mil.bag_term import annotation_loss
from mil.course import Stage

from .config import InstanceConfig
from .material import Material
from .witness import Witnesses

_RATE_AND_DECAY = {"linear": (0.02, 0.1), "hidden": (0.007, 0.5), "context": (0.007, 0.5)}  # of AdamW


def hear(
    witnesses: Witnesses, material: Material, config: InstanceConfig, stage: Stage, among: Tensor
) -> None:
    """Let the witnesses learn from the labels of the bags `among` all (indices)."""
    witnesses.begin(material, among)
    optimizer = _optimizer(witnesses)
    annotated = material.annotated[torch.isin(material.packed.bag_of[material.annotated], among)]
    n_steps = config.steps(len(among), material.packed.n_views)
    n_all = config.witness_epochs * n_steps
    # full steps in the first half, smaller and smaller ones in the second
    slowing = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, 2 * (1 - i / n_all)))
    for epoch in stage.epochs(config.witness_epochs, optimizer=optimizer, slowing=slowing):
        losses, seen = [], 0
        for _ in range(n_steps):
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


def _annotation_term(witnesses: Witnesses, material: Material, annotated: Tensor, n: int) -> Tensor:
    rows = annotated[torch.randint(len(annotated), (n,), generator=material.generator)]
    margins = witnesses(material.drawn(rows))
    return torch.stack([annotation_loss(each, material.candidates[rows]) for each in margins]).sum()
