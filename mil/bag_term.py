"""The bag term: margins of a bag's instances pooled to one per class, and the log loss of the label.

A margin is the log odds of a class against the negative (or background) one, so an instance has K =
T - 1 of them. Slide and tile probabilities are two readings of the same margins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from .classes import Classes, Labels

Pooling = Callable[[Tensor, Tensor], Tensor]


def mean_pooling(margins: Tensor, counts: Tensor) -> Tensor:
    """Return the mean margin of each bag: margins (N, K) in runs of `counts` (B,) -> (B, K)."""
    return _sum(margins, _bag_of(counts), len(counts)) / counts[:, None]


def max_pooling(margins: Tensor, counts: Tensor) -> Tensor:
    """Return the largest margin of each bag: (N, K) -> (B, K)."""
    return _highest(margins, _bag_of(counts), len(counts))


def mix_pooling(margins: Tensor, counts: Tensor) -> Tensor:
    """Return the middle between mean and maximum: every instance learns, the strongest one most."""
    return (mean_pooling(margins, counts) + max_pooling(margins, counts)) / 2


def noisy_or_pooling(margins: Tensor, counts: Tensor, most: int | None = None) -> Tensor:
    """Return the log odds that at least one instance of independent ones is of the class: (N, K) -> (B, K).

    Of a bag of more than `most` instances it is said of that many like them, or every huge bag is positive.
    """
    none = _sum(functional.logsigmoid(-margins), _bag_of(counts), len(counts))
    if most is not None:
        none = none * (most / counts[:, None]).clamp(max=1)
    none = none.clamp(max=-1e-6)
    return -none + torch.log(-torch.expm1(none))  # log((1 - e^none) / e^none)


def log_mean_exp_pooling(margins: Tensor, counts: Tensor) -> Tensor:
    """Return the log of the mean odds of each bag, between mean and maximum: (N, K) -> (B, K)."""
    bag_of = _bag_of(counts)
    # the gradient through the maximum is zero: it only keeps the odds from overflowing
    highest = _highest(margins.detach(), bag_of, len(counts))
    odds = _sum((margins - highest[bag_of]).exp(), bag_of, len(counts)) / counts[:, None]
    return highest + odds.log()


def soft_mean_pooling(margins: Tensor, counts: Tensor) -> Tensor:
    """Return four times the log of the mean fourth root of the odds, nearer to their mean margin."""
    return 4 * log_mean_exp_pooling(margins / 4, counts)


def top_pooling(margins: Tensor, counts: Tensor, one_in: int) -> Tensor:
    """Return the mean of the strongest one in `one_in` of each bag, of one at least: (N, K) -> (B, K)."""
    bags = margins.split(counts.tolist())
    return torch.stack([bag.topk(max(1, len(bag) // one_in), dim=0).values.mean(0) for bag in bags])


POOLINGS: dict[str, Pooling] = {
    "mean": mean_pooling,
    "max": max_pooling,
    "mix": mix_pooling,
    "noisy_or": noisy_or_pooling,
    "log_mean_exp": log_mean_exp_pooling,
    "soft_mean": soft_mean_pooling,
}


def pooling_of(name: str, most: int) -> Pooling:
    """Return the pooling of a name, for whoever is taught on at most `most` instances of a bag.

    Taught on so many, a noisy-or would call every larger bag positive.
    """
    return partial(noisy_or_pooling, most=most) if name == "noisy_or" else POOLINGS[name]


def _bag_of(counts: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), counts)


def _sum(values: Tensor, bag_of: Tensor, n_bags: int) -> Tensor:
    return values.new_zeros(n_bags, values.shape[1]).index_add(0, bag_of, values)


def _highest(values: Tensor, bag_of: Tensor, n_bags: int) -> Tensor:
    lowest = values.new_full((n_bags, values.shape[1]), -torch.inf)
    return lowest.scatter_reduce(0, bag_of[:, None].expand_as(values), values, "amax")


def is_of(labels: Tensor, n_classes: int) -> Tensor:
    """Return of which classes bags are, bool (B, C): `labels` are int64 (B,), or that already."""
    return labels if labels.ndim == 2 else functional.one_hot(labels, n_classes).bool()


def candidates_of(labels: Tensor, classes: Classes) -> Tensor:
    """Return which tile classes instances of bags with `labels` may have: bool (B, T).

    `labels` are int64 (B,) or bool (B, C). Negative bags have class 0 alone, bags of class c have 0
    and c, bags of several have 0 and those; in subtyping 0 is background.
    """
    candidates = is_of(labels, len(classes.names))
    candidates = candidates.clone() if classes.has_negative else functional.pad(candidates, (1, 0))
    candidates[:, 0] = True
    return candidates


@dataclass(frozen=True)
class Balance:
    """How often each class is seen in training.

    Rare ones weigh more in the loss; probabilities are put back to the frequencies that were seen.

    `weight` (C,) has a mean of one over the bags; `log_prior` (C,) is the log share of the bags. Where
    classes do not exclude each other, bags of a class and those that are not weigh the same together.
    """

    weight: Tensor
    log_prior: Tensor

    @classmethod
    def of(cls, labels: Labels, n_classes: int) -> "Balance":
        """Return the balance of `labels`; a class that is absent weighs nothing and keeps a prior."""
        counts = is_of(torch.tensor(labels), n_classes).sum(0).float()
        present = counts > 0
        weight = torch.where(present, len(labels) / (int(present.sum()) * counts.clamp(min=1)), 0.0)
        return cls(weight, (counts.clamp(0.5, len(labels) - 0.5) / len(labels)).log())


def bag_loss(pooled: Tensor, labels: Tensor, classes: Classes, balance: Balance) -> Tensor:
    """Return the balanced log loss of labels under the pooled margins (B, K).

    `labels` are int64 (B,), or bool (B, C) where the classes do not exclude each other: there, and
    without a negative class, each class is learned against all that is not of it, which leaves what
    slides of all classes have in common below zero everywhere: the background.
    """
    if classes.is_exclusive and classes.has_negative:
        losses = functional.cross_entropy(_with_zero(pooled), labels, reduction="none")
        return (losses * balance.weight[labels]).mean()
    truth = is_of(labels, len(classes.names))[:, -pooled.shape[1] :]
    losses = functional.binary_cross_entropy_with_logits(pooled, truth.to(pooled.dtype), reduction="none")
    if classes.is_exclusive:
        return (losses.mean(1) * balance.weight[labels]).mean()
    share = balance.log_prior.exp()[-pooled.shape[1] :]
    return (losses * torch.where(truth, 0.5 / share, 0.5 / (1 - share))).mean()


def annotation_loss(margins: Tensor, candidates: Tensor) -> Tensor:
    """Return the log loss of instances, margins (N, K), being of one of their `candidates` bool (N, T).

    The mean over the instances of one candidate set, then over the sets: few annotated tumour tiles
    weigh as much as many normal ones.
    """
    log_probability = functional.log_softmax(_with_zero(margins), dim=1)
    losses = -log_probability.masked_fill(~candidates, -torch.inf).logsumexp(1)
    _, which, counts = candidates.unique(dim=0, return_inverse=True, return_counts=True)
    return (losses / counts[which]).sum() / len(counts)


def slide_log_probability(pooled: Tensor, classes: Classes, balance: Balance) -> Tensor:
    """Return the log probability of each class, (B, C), from pooled margins (B, K).

    Where classes do not exclude each other, that of the negative one is of none of the others, taken
    as independent.
    """
    if classes.is_exclusive:
        logits = _with_zero(pooled) if classes.has_negative else functional.logsigmoid(pooled)
        return functional.log_softmax(logits + balance.log_prior, dim=1)
    log_prior = balance.log_prior[-pooled.shape[1] :]
    logits = pooled + log_prior - torch.log1p(-log_prior.exp())
    none = functional.logsigmoid(-logits).sum(1, keepdim=True)
    return torch.cat([none[:, : int(classes.has_negative)], functional.logsigmoid(logits)], dim=1)


def tile_probability(margins: Tensor) -> Tensor:
    """Return the probability of each tile class, (N, T), from margins (N, K)."""
    return functional.softmax(_with_zero(margins), dim=1)


def _with_zero(margins: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(margins[:, :1]), margins], dim=1)
