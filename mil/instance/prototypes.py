"""Prototypes: unit vectors, one or several a class, which follow the instances of their class."""

import torch
from torch import Tensor
from torch.nn import functional

_SHARPNESS, _ROUNDS = 0.05, 3  # of the balanced assignment, as published


class Prototypes:
    """Unit vectors `vectors` (T J, E), J a class: number p is prototype p % J of class p // J.

    Each is moved by a share 1 - `momentum` towards the instances of its class that are its own, in
    turn. With one a class these are all, as in arXiv 2307.02249; with several the instances of a
    batch are shared out evenly, as in arXiv 2203.15102, so that no prototype is left without.
    """

    def __init__(self, vectors: Tensor, momentum: float, per_class: int = 1) -> None:
        self.vectors = functional.normalize(vectors, dim=1)
        self.momentum, self.per_class = momentum, per_class

    def similar(self, queries: Tensor) -> Tensor:
        """Return the cosine of each query (B, E) and each prototype, (B, T J)."""
        return queries @ self.vectors.T

    def scores(self, queries: Tensor) -> Tensor:
        """Return z = softmax(q . mu), (B, T), of queries (B, E) and the nearest prototype of each class."""
        nearest = self.similar(queries).unflatten(1, (-1, self.per_class)).amax(2)
        return functional.softmax(nearest, dim=1)

    def update(self, queries: Tensor, classes: Tensor) -> None:
        """Move each prototype through its own queries (B, E), of its class (B,), in order, then normalise."""
        moved, queries = self.vectors.clone(), queries.detach()
        numbers = self._shared_out(queries, classes)
        for p in range(len(moved)):
            own = queries[numbers == p]
            powers = self.momentum ** torch.arange(len(own) - 1, -1, -1.0)
            # n steps of mu <- g mu + (1 - g) q at once
            moved[p] = self.momentum ** len(own) * moved[p] + (1 - self.momentum) * (powers @ own)
        self.vectors = functional.normalize(moved, dim=1)

    def _shared_out(self, queries: Tensor, classes: Tensor) -> Tensor:
        """Return the number of the prototype that each query (B, E) moves, (B,)."""
        numbers = classes * self.per_class
        if self.per_class > 1:
            for c in classes.unique():
                own = classes == c
                of_class = self.vectors.unflatten(0, (-1, self.per_class))[c]
                numbers[own] += shared_out(queries[own] @ of_class.T)
        return numbers

    def angle_deg(self) -> float:
        """Return the angle in degrees between the two classes that are nearest to each other.

        It is the mean angle of the prototypes of a class and the nearest one of the other: near 0 the
        classes collapsed. That two of many come close is no collapse.
        """
        of_classes = self.vectors.unflatten(0, (-1, self.per_class))
        cosine = torch.einsum("tje,uke->tujk", of_classes, of_classes).clamp(-1, 1)
        angles = torch.rad2deg(torch.arccos(cosine.amax(3))).mean(2)  # (T, T)
        angles.fill_diagonal_(torch.inf)
        return float(angles.min())


def shared_out(similar: Tensor) -> Tensor:
    """Return the prototype of each instance, (n,), by their cosines (n, J): alike, and evenly many each.

    The shares of instances and prototypes are brought to one and to n / J in turn (Sinkhorn and Knopp).
    """
    log_share = similar / _SHARPNESS
    for _ in range(_ROUNDS):
        log_share = log_share.log_softmax(0)
        log_share = log_share.log_softmax(1)
    return log_share.argmax(1)


def matching(nearest: Tensor, others: Tensor, n_classes: int, per_class: int) -> Tensor:
    """Return which prototype of another model, (T J,), stands for each of one's own.

    `nearest` and `others` (N,) are the numbers of the prototypes that instances are nearest to in the
    two models. Those of one class are paired such that as many instances as can be are in pairs.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    n = n_classes * per_class
    together = torch.bincount(nearest * n + others, minlength=n * n).view(n, n)
    pairs = []
    for start in range(0, n, per_class):
        of_class = together[start : start + per_class, start : start + per_class]
        pairs.append(start + torch.from_numpy(linear_sum_assignment(of_class, maximize=True)[1]))
    return torch.cat(pairs)
