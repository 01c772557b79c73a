"""Soft pseudo labels, and the share of positives that keeps them from collapsing."""

import torch
from torch import Tensor
from torch.nn import functional


class PseudoLabels:
    """A soft label of each instance, `soft` float32 (N, T): rows sum to one, uniform at first.

    Once witnesses have begun them, `began` int16 (N,) is the class that each began as, to which `anchor` of
    it is tied for good. With more than half of it tied, what moves labels may say that an instance is unsure,
    not that it is another.
    """

    def __init__(self, candidates: Tensor, anchor: float = 0.0) -> None:
        self.soft = candidates / candidates.sum(1, keepdim=True)
        self.began = torch.empty(0, dtype=torch.int16)
        self.anchor = anchor

    def begin(self, evidence: Tensor, counts: Tensor, keeper: "ShareKeeper", false_share: float) -> None:
        """Set the labels of all instances (N,), bag after bag of `counts` (B,), by evidence (N, T - 1).

        An instance with one candidate is of that. Any other is of a class where its evidence is rarer than
        `false_share` among those that cannot be of it; of each bag that may be, within the keeper's
        bounds. Of several classes, which a bag may have that do not exclude each other, it is of the one
        with the most evidence beyond that.
        """
        may = self.soft > 0
        is_certain = may.sum(1) == 1
        chosen = may.int().argmax(1)  # class 0 wherever it may be
        beyond = torch.full((len(evidence),), -torch.inf)
        for c in range(1, may.shape[1]):
            known = evidence[~may[:, c], c - 1]
            line = known.sort().values[int((1 - false_share) * (len(known) - 1))]
            for bag in torch.arange(len(may)).split(counts.tolist()):
                rows = bag[may[bag, c]]
                if not len(rows):
                    continue
                own = (evidence[rows, c - 1] - line).masked_fill(is_certain[rows], torch.inf)
                n = keeper.clamp(int((own > 0).sum()), len(bag))
                top = own.topk(min(n, len(rows))).indices
                top = top[own[top] > beyond[rows[top]]]
                chosen[rows[top]], beyond[rows[top]] = c, own[top]
        self.began = chosen.to(torch.int16)
        self.soft = functional.one_hot(chosen, may.shape[1]).float()

    def update(self, rows: Tensor, chosen: Tensor, phi: float) -> None:
        """Move the labels of `rows` (B,) towards the `chosen` classes (B,): s <- phi s + (1 - phi) onehot.

        Of labels that have begun `anchor` of the step is to where they began.
        """
        keep, each = self.soft[rows] * phi, torch.arange(len(rows))
        if len(self.began):
            keep[each, self.began[rows].long()] += (1 - phi) * self.anchor
        # a class that is certain stays exactly so: phi * 1 + (1 - phi) may round to less
        keep[each, chosen] = 1 - (keep.sum(1) - keep[each, chosen])
        self.soft[rows] = keep


class ShareKeeper:
    """Calls an instance of a positive bag positive by its evidence, within bounds on how many are.

    Evidence above zero is positive, as the argmax would have it, unless fewer than `least` or more
    than `most` of the last instances of positive bags were: then the quantile decides. Without the
    lower bound all pseudo labels turn negative, as the published rule does on rare positives.
    """

    def __init__(self, least: float, most: float, memory: int = 4096) -> None:
        self._least, self._most = least, most
        self._memory = memory
        self._seen: dict[int, Tensor] = {}

    def clamp(self, n_positive: int, n: int) -> int:
        """Return how many of `n` instances of one bag are positive where evidence says `n_positive`."""
        return max(1, min(max(n_positive, round(self._least * n)), round(self._most * n)))

    def choose(self, evidence: Tensor, candidates: Tensor) -> Tensor:
        """Return the class of each instance, int64 (B,), one of its candidates (B, T).

        `evidence` (B, T - 1) is for each class against class 0, on any scale with a zero.
        """
        beyond = torch.full_like(candidates, -torch.inf, dtype=torch.float32)
        beyond[candidates[:, 0], 0] = 0
        for c in range(1, candidates.shape[1]):
            may = candidates[:, c]
            if may.any():
                own = evidence[may, c - 1].detach()
                beyond[may, c] = own - self._threshold(c, own)
        return beyond.argmax(1)

    def _threshold(self, c: int, evidence: Tensor) -> Tensor:
        if self._least == 0 and self._most == 1:
            return torch.zeros(())
        seen = torch.cat([self._seen.get(c, evidence[:0]), evidence])[-self._memory :]
        self._seen[c] = seen
        low, high = torch.quantile(seen, torch.tensor([1 - self._most, 1 - self._least]))
        return torch.zeros(()).clamp(low, high)
