"""How a slide is read by several witnesses: each weighs by how well it told bags left out of its training."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mil.bag_term import bag_loss, is_of

from .config import KINDS
from .material import Material

_SHARPNESS = 1.5  # of weights; at 2 they are about the odds of being the best, but a mean is better still
_LEAST_GAIN = 0.1  # where held-out bags know nothing, the order of slides is kept


class Reading(nn.Module):
    """A line of the weighted mean of the witnesses' bag margins on one scale: (W, B, K) a kind -> (B, K).

    `weight` (G, W) sums to 1 over the kinds of witnesses and their poolings; `centre` and `spread` (G, W, K)
    are those of the margins of held-out bags, and so is the line of one `gain` () and an `offset` (K,). A
    new one trusts nobody yet.
    """

    weight: Tensor
    centre: Tensor
    spread: Tensor
    gain: Tensor
    offset: Tensor

    def __init__(self, n_witnesses: int, n_margins: int) -> None:
        super().__init__()
        size = (len(KINDS), n_witnesses)
        self.register_buffer("weight", torch.zeros(size))
        self.register_buffer("centre", torch.zeros(*size, n_margins))
        self.register_buffer("spread", torch.ones(*size, n_margins))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("offset", torch.zeros(n_margins))

    def forward(self, margins: Mapping[str, Tensor]) -> Tensor:
        """Return the margins of bags, log odds of a balanced cohort."""
        return self._mean(margins) * self.gain + self.offset

    def weigh(self, margins: Mapping[str, Tensor], truth: np.ndarray, patients: np.ndarray) -> None:
        """Weigh the witnesses of some kinds by their margins (W, B, K) of bags that they have not seen.

        `truth` bool (B, C) says of which classes the bags are, `patients` int (B,) whose. A witness whose
        squared error is larger than the best one's by z standard errors of the paired difference has
        exp(-1.5 z) of its weight.
        """
        each = torch.cat(list(margins.values()))
        errors = np.stack([squared_errors(one, truth) for one in each.numpy()])
        z = standard_errors_worse(errors, patients)
        weight = torch.softmax(torch.from_numpy(-_SHARPNESS * z).float(), 0)
        self.weight.zero_()
        for kind, own in zip(margins, weight.split(self.weight.shape[1]), strict=True):
            self.weight[KINDS.index(kind)] = own
        self._place(margins)

    def weigh_alike(self, margins: Mapping[str, Tensor]) -> None:
        """Let the witnesses of some kinds weigh the same; `margins` (W, B, K) are of bags not seen."""
        self.trust(margins)
        self._place(margins)

    def trust(self, kinds: Iterable[str]) -> None:
        """Let the witnesses of some kinds weigh the same, on the scale that they have."""
        rows = [KINDS.index(kind) for kind in kinds]
        self.weight.zero_()
        self.weight[rows] = 1 / (len(rows) * self.weight.shape[1])

    def _place(self, margins: Mapping[str, Tensor]) -> None:
        for kind, own in margins.items():
            spread = own.std(1)
            self.centre[KINDS.index(kind)] = own.mean(1)
            self.spread[KINDS.index(kind)] = torch.where(spread > 1e-6, spread, 1.0)

    def calibrate(self, margins: Mapping[str, Tensor], material: Material) -> None:
        """Choose the line by margins (W, B, K) a kind of all bags, whose witnesses had not seen them."""
        told, known = self._mean(margins), (material.packed.labels, material.classes, material.balance)
        gain = torch.ones((), requires_grad=True)
        offset = torch.zeros(told.shape[1], requires_grad=True)
        optimizer = torch.optim.LBFGS([gain, offset], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            # the pull of one bag keeps the line of labels that are told without fault from growing steep
            found = bag_loss(told * gain + offset, *known) + 0.5 * gain.square() / len(told)
            found.backward()
            return found

        optimizer.step(loss)
        self.gain, self.offset = gain.detach().clamp(min=_LEAST_GAIN), offset.detach()
        # no bag is of a class, or each is: what has no end stops where it would be if half a bag differed
        share = is_of(known[0], len(material.classes.names))[:, -told.shape[1] :].float().mean(0)
        most = math.log(2 * len(told))
        self.offset = torch.where((share == 0) | (share == 1), self.offset.clamp(-most, most), self.offset)

    def _mean(self, margins: Mapping[str, Tensor]) -> Tensor:
        told = []
        for kind, own in margins.items():
            number = KINDS.index(kind)
            standard = (own - self.centre[number][:, None]) / self.spread[number][:, None]
            told.append(torch.einsum("w,wbk->bk", self.weight[number], standard))
        return torch.stack(told).sum(0)


def standard_errors_worse(errors: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return by how many standard errors of the paired difference each is worse than the best, (V,).

    `errors` (V, B) are those of each for every bag. Bags of one of the `patients` int (B,), 0 to P - 1,
    may err alike: it is the means of patients that are compared.
    """
    sums = np.stack([np.bincount(patients, weights=each) for each in errors])
    of_patients = sums / np.bincount(patients)
    worse = of_patients - of_patients[of_patients.mean(1).argmin()]
    standard_error = worse.std(1) / worse.shape[1] ** 0.5
    mean = worse.mean(1)
    alike = np.where(mean > 0, np.inf, 0.0)  # of those that are worse by the same for every bag
    return np.divide(mean, standard_error, out=alike, where=standard_error > 0)


def squared_errors(margins: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the squared errors of bags, (B,), of the best probabilities that margins (B, K) give.

    `truth` bool (B, C) says of which classes they are; the classes weigh the same. How sure margins are of
    themselves is not what is asked: they are put on one scale first.
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
