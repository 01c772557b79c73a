"""The three instance losses of INS (arXiv 2307.02249): contrast, its warm-up, and classification."""

import torch
from torch import Tensor
from torch.nn import functional


def contrastive_losses(
    queries: Tensor, keys: Tensor, queue: Tensor, classes: Tensor, queue_classes: Tensor, temperature: float
) -> Tensor:
    """Return the class-aware contrastive loss of each anchor, (B,).

    Anchors are `queries` (B, E); A = [queries; keys; queue (M, E)] without the anchor itself, all of
    unit norm. `classes` (B,) are those of queries and of their keys, `queue_classes` (M,) of the
    queue; -1 is of no class. P(i) = the entries of A with the class of i, its own key among them.
    """
    others = torch.cat([queries, keys, queue])
    similar = queries @ others.T / temperature  # (B, A)
    itself = torch.eye(len(queries), len(others), dtype=torch.bool)
    log_share = functional.log_softmax(similar.masked_fill(itself, -torch.inf), dim=1)
    positive = (classes[:, None] == torch.cat([classes, classes, queue_classes])) & ~itself
    return -log_share.masked_fill(~positive, 0).sum(1) / positive.sum(1)


def warm_up_losses(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return plain InfoNCE of each anchor, (B,): the own key is positive, the queue negative."""
    own = (queries * keys).sum(1, keepdim=True)
    similar = torch.cat([own, queries @ queue.T], dim=1) / temperature
    return -functional.log_softmax(similar, dim=1)[:, 0]


def classification_losses(margins: Tensor, pseudo_labels: Tensor) -> Tensor:
    """Return the cross-entropy of each instance, (B,), under soft pseudo labels (B, T).

    `margins` (B, T - 1) are log odds against class 0, whose logit is therefore zero.
    """
    logits = torch.cat([torch.zeros_like(margins[:, :1]), margins], dim=1)
    return -(pseudo_labels * functional.log_softmax(logits, dim=1)).sum(1)
