"""How a slide is read by several witnesses: each weighs by how well it told bags left out of its training."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from mil.bag_term import bag_loss, is_of

from .material import Material

_SHARPNESS = 1.5  # of weights; at 2 they are about the odds of being the best, but a mean is better still
_LEAST_GAIN = 0.1  # where held-out bags know nothing, the order of slides is kept


class Reading(nn.Module):
    """A line of the weighted mean of the witnesses' bag margins on one scale: (W, B, K) -> (B, K).

    `weight` (W,) sums to 1; `centre` and `spread` (W, K) are those of the margins of held-out bags, and so
    is the line of one `gain` () and an `offset` (K,). A new one is the plain mean.
    """

    weight: Tensor
    centre: Tensor
    spread: Tensor
    gain: Tensor
    offset: Tensor

    def __init__(self, n_witnesses: int, n_margins: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((n_witnesses,), 1 / n_witnesses))
        self.register_buffer("centre", torch.zeros(n_witnesses, n_margins))
        self.register_buffer("spread", torch.ones(n_witnesses, n_margins))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("offset", torch.zeros(n_margins))

    def forward(self, margins: Tensor) -> Tensor:
        """Return the margins of bags, log odds of a balanced cohort."""
        return self._mean(margins) * self.gain + self.offset

    def weigh(self, margins: Tensor, truth: np.ndarray) -> None:
        """Weigh the witnesses by their margins (W, B, K) of bags that they have not seen.

        `truth` bool (B, C) says of which classes the bags are. A witness whose squared error is larger
        than the best one's by z standard errors of the paired difference has exp(-1.5 z) of its weight.
        """
        errors = np.stack([squared_errors(each, truth) for each in margins.numpy()])
        worse = errors - errors[errors.mean(1).argmin()]
        standard_error = worse.std(1) / worse.shape[1] ** 0.5
        z = np.divide(worse.mean(1), standard_error, out=np.zeros(len(worse)), where=standard_error > 0)
        self.weight = torch.softmax(torch.from_numpy(-_SHARPNESS * z).float(), 0)
        self.place(margins)

    def place(self, margins: Tensor) -> None:
        """Bring the witnesses to one scale, that of margins (W, B, K) of bags that they have not seen."""
        self.centre, spread = margins.mean(1), margins.std(1)
        self.spread = torch.where(spread > 1e-6, spread, 1.0)

    def calibrate(self, margins: Tensor, material: Material) -> None:
        """Choose the line by margins (W, B, K) of all bags of `material` that the witnesses had not seen."""
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

    def _mean(self, margins: Tensor) -> Tensor:
        standard = (margins - self.centre[:, None]) / self.spread[:, None]
        return torch.einsum("w,wbk->bk", self.weight, standard)


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
