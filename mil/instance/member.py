"""One member of the committee while it is trained: its net and all that its contrast needs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .losses import contrastive_losses, warm_up_losses
from .network import InstanceNet, MomentumCopy
from .prototypes import Prototypes
from .pseudo_labels import ShareKeeper
from .queue import KeyQueue


@dataclass(frozen=True)
class Contrast:
    """What one member says of a batch: its loss, the margins (B, K), and the prototypes' evidence (B, K)."""

    loss: Tensor
    margins: Tensor
    evidence: Tensor


@dataclass(frozen=True)
class Member:
    """A net, its momentum copy, the copy's last keys, one prototype a class, and the bounds on positives."""

    net: InstanceNet
    copy: MomentumCopy
    queue: KeyQueue
    prototypes: Prototypes
    keeper: ShareKeeper

    def contrast(
        self,
        query_view: Tensor,
        key_view: Tensor,
        candidates: Tensor,
        *,
        temperature: float,
        is_warm_up: bool,
    ) -> Contrast:
        """Compare two views (B, D) of a batch whose `candidates` are bool (B, T).

        Section 3 of arXiv 2307.02249, in its order: predicted classes, the prototypes' scores from
        before this step, the loss, then prototypes and queue move on. In the warm-up the loss knows
        no classes.
        """
        embedded = self.net.embed(query_view)
        margins, queries = self.net.classifier(embedded), self.net.project(embedded)
        keys = self.copy.keys(key_view)
        predicted = self.keeper.choose(margins, candidates)
        with torch.no_grad():
            scores = self.prototypes.scores(queries)
        if is_warm_up:
            losses = warm_up_losses(queries, keys, self.queue.keys, temperature)
        else:
            losses = contrastive_losses(
                queries, keys, self.queue.keys, predicted, self.queue.classes, temperature
            )
        self.prototypes.update(queries, predicted)
        self.queue.push(keys, predicted)
        return Contrast(losses.mean(), margins, scores[:, 1:] - scores[:, :1])
