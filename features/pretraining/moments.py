"""Sums over rows from which whitening and least squares follow, however many rows there were."""

from dataclasses import dataclass

import torch

_FLOOR = 1e-3  # of the mean variance, added to each direction's
_RIDGE = 0.03  # of the variance of what is seen, added to each of its numbers'


@dataclass(frozen=True)
class Regression:
    """What is wanted, partly whitened, and the linear head that tells it best; float64.

    Wanted is `(rows - centre) @ matrix`, of mean square 1 over these rows; `weight` (wanted, seen) and `bias`
    (wanted,) are of a `torch.nn.Linear`.
    """

    centre: torch.Tensor
    matrix: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor


class Moments:
    """Sums of products of what is seen, of n numbers, and what teachers make of it, of m.

    `sums` is float64 (1 + n + m, 1 + n + m), on a device that has such numbers: of several processes, they
    may be added.
    """

    def __init__(self, n_seen: int, n_taught: int, device: torch.device | str = "cpu") -> None:
        self._n_seen, n = n_seen, 1 + n_seen + n_taught
        self.sums = torch.zeros(n, n, dtype=torch.float64, device=device)

    def add(self, seen: torch.Tensor, taught: torch.Tensor) -> None:
        """Add rows: seen (..., n) and taught (..., m), which belong together."""
        parts = [each.flatten(0, -2).to(self.sums.device) for each in (seen, taught)]
        rows = torch.cat(parts, dim=1).double()
        rows = torch.nn.functional.pad(rows, (1, 0), value=1.0)
        self.sums += rows.T @ rows

    def regression(self, whitening: float, n_tiles: int) -> Regression:
        """Return the least squares of what is taught, its directions divided by deviation ** whitening.

        Rows are of so many tiles, and rows of one tile are alike: the fewer tiles, the less it is believed
        that directions which hardly vary in them hardly vary; of tokens, which are less alike, too little.
        """
        sums, n = self.sums.cpu(), self._n_seen
        sums = sums / sums[0, 0]  # the first number of each row is 1
        means = sums[0, 1:]
        spread = sums[1:, 1:] - means.outer(means)
        matrix = _whitening(spread[n:, n:], whitening, n_tiles)
        deviation = spread[:n, :n].diagonal().clamp(min=0).sqrt()
        deviation = deviation.clamp(min=1e-3 * float(deviation.mean()) + 1e-12)
        ridged = spread[:n, :n] / deviation.outer(deviation) + _RIDGE * torch.eye(n, dtype=torch.float64)
        solved = torch.linalg.solve(ridged, spread[:n, n:] / deviation[:, None] @ matrix)
        weight = (solved / deviation[:, None]).T
        return Regression(means[n:], matrix, weight, -weight @ means[:n])


def _shrunk(covariance: torch.Tensor, n_rows: int) -> torch.Tensor:
    """Return a covariance drawn towards equal variances, by oracle approximating shrinkage (arXiv 0907.4698).

    Directions that few rows do not show are not without variance. It is as scikit-learn makes it of rows.
    """
    m = len(covariance)
    mean, square = covariance.diagonal().mean(), covariance.square().mean()
    apart = (n_rows + 1) * (square - mean.square() / m)
    share = ((square + mean.square()) / apart.clamp(min=1e-300)).clamp(max=1)
    return (1 - share) * covariance + (share + _FLOOR) * mean * torch.eye(m, dtype=covariance.dtype)


def _whitening(covariance: torch.Tensor, share: float, n_rows: int) -> torch.Tensor:
    """Return the symmetric matrix that divides directions so; it alone does not hang on their signs."""
    variances, directions = torch.linalg.eigh(_shrunk(covariance, n_rows))
    matrix = directions * variances.clamp(min=1e-12) ** (-share / 2) @ directions.T
    left = (matrix @ covariance @ matrix).diagonal().mean()
    return matrix / left.clamp(min=1e-12).sqrt()
