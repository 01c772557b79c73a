"""The three instance losses of INS (arXiv 2307.02249): contrast, its warm-up, and classification."""

from typing import Any

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
    others = torch.cat([keys, queue])
    # the similarities to P(i) add up to that of their sum, so that no mask of (B, A) is needed
    kinds, kind = classes.unique(return_inverse=True)
    of_queries = (classes[:, None] == kinds).to(queries.dtype)
    of_others = (torch.cat([classes, queue_classes])[:, None] == kinds).to(queries.dtype)
    sums = of_queries.T @ queries + of_others.T @ others  # (T, E)
    n_positive = (of_queries.sum(0) + of_others.sum(0))[kind] - 1
    near = (queries * (sums[kind] - queries)).sum(1) / n_positive / temperature
    return _LogSum.apply(queries, others, temperature) - near  # pyright: ignore[reportOperatorIssue]


class _LogSum(torch.autograd.Function):
    """log sum exp(q . a / temperature) over A of each anchor, (B,); `others` (M, E) need no gradient.

    By hand, as the (B, A) exponentials are most of a step: here they are taken once and stay in place.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, others: Tensor, temperature: float) -> Tensor:
        similar = (queries / temperature) @ torch.cat([queries, others]).T
        similar.fill_diagonal_(-torch.inf)  # the anchor itself
        highest = similar.amax(1, keepdim=True)
        odds = similar.sub_(highest).exp_()
        total = odds.sum(1, keepdim=True)
        ctx.save_for_backward(queries, others, odds.div_(total))
        ctx.temperature = temperature
        return (highest + total.log())[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        queries, others, share = ctx.saved_tensors
        weight = (gradients[0] / ctx.temperature)[:, None]
        as_anchor = weight * (share @ torch.cat([queries, others]))
        return as_anchor + share[:, : len(queries)].T @ (weight * queries), None, None


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
