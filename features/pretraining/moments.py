"""Sums over rows from which whitening and least squares follow, however many rows there were."""

from dataclasses import dataclass

import torch

_FLOOR = 1e-3  # of the mean variance, added to each direction's
_RIDGE = 0.01  # of the variance of what is seen, added to each of its numbers'


@dataclass(frozen=True)
class Regression:
    """What is wanted, partly whitened, and the linear head that tells it best; float64.

    Wanted is `(rows - centre) @ matrix`, of mean variance 1; `weight` (wanted, seen) and `bias` (wanted,) are
    of a `torch.nn.Linear`.
    """

    centre: torch.Tensor
    matrix: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor


class Moments:
    """Sums of products of what is seen, of n numbers, and what teachers make of it."""

    def __init__(self, n_seen: int) -> None:
        self._n_seen = n_seen
        self._sums: torch.Tensor | float = 0.0

    def add(self, seen: torch.Tensor, taught: torch.Tensor) -> None:
        """Add rows: seen (..., n) and taught (..., m), which belong together."""
        rows = torch.cat([seen.flatten(0, -2), taught.flatten(0, -2)], dim=1).double()
        rows = torch.nn.functional.pad(rows, (1, 0), value=1.0)
        self._sums = self._sums + rows.T @ rows

    def regression(self, whitening: float) -> Regression:
        """Return the least squares of what is taught, its directions divided by deviation ** whitening."""
        sums = torch.as_tensor(self._sums)
        sums, n = sums / sums[0, 0], self._n_seen  # the first number of each row is 1
        means = sums[0, 1:]
        spread = sums[1:, 1:] - means.outer(means)
        matrix = _whitening(spread[n:, n:], whitening)
        deviation = spread[:n, :n].diagonal().clamp(min=0).sqrt()
        deviation = deviation.clamp(min=1e-3 * float(deviation.mean()) + 1e-12)
        ridged = spread[:n, :n] / deviation.outer(deviation) + _RIDGE * torch.eye(n, dtype=torch.float64)
        solved = torch.linalg.solve(ridged, spread[:n, n:] / deviation[:, None] @ matrix)
        weight = (solved / deviation[:, None]).T
        return Regression(means[n:], matrix, weight, -weight @ means[:n])


def _whitening(covariance: torch.Tensor, share: float) -> torch.Tensor:
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0)
    scales = (variances + _FLOOR * variances.mean() + 1e-12) ** (-share / 2)
    left = (variances * scales.square()).mean()
    return directions * scales / left.sqrt().clamp(min=1e-6)
