"""Tiles: probabilities from bag labels alone, by reasoning from positive and unlabelled examples.

Tiles of negative bags have a known distribution f0 of margins. Those of positive bags are a mixture,
f = (1 - rate) f0 + rate f1. "Is this tile from a positive bag?" can be learned from bag labels, every bag
weighing the same, and its odds are f / f0. With log f1 / f0 a rising line of the margin m,

    f / f0 = (1 - rate) + exp(slope m + offset),

which is a logistic regression with a floor, the share of tiles in positive bags that are like negative
ones (Ward et al. 2009, Biometrics 65:554). The same line then tells a tile's own odds.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from .lines import Lines

_OBSERVATIONS = 3.0  # what a bag counts: its tiles are alike, hundreds of them are no hundreds of witnesses
_SLOPE_DOUBT = 1.0  # standard deviation of the log slope around 0: margins were meant as log odds
_FLOOR, _FLOOR_DOUBT = 3.0, 2.0  # log odds that a tile of a positive bag is negative: 95 %, give or take much


def tile_lines(tile_margins: Sequence[np.ndarray], labels: np.ndarray) -> Lines:
    """Return a line for each class against the negative one.

    `tile_margins` (n, K) a bag, `labels` int (B,) with 0 for negative bags; each class needs bags. The
    tiles' rate is that of all bags in which each counts the same.
    """
    shares = np.bincount(labels, minlength=tile_margins[0].shape[1] + 1) / len(labels)
    negative = [tiles for tiles, label in zip(tile_margins, labels, strict=True) if label == 0]
    slopes, offsets, rates = [], [], []
    for k, share in enumerate(shares[1:]):
        own = [tiles[:, k] for tiles, label in zip(tile_margins, labels, strict=True) if label == k + 1]
        slope, offset, rate = _mixture([tiles[:, k] for tiles in negative], own)
        slopes.append(slope)
        offsets.append(offset + np.log(share))
        rates.append(share * rate)
    log_negative = np.log1p(-sum(rates))  # the share of negative tiles among all
    return Lines(tuple(slopes), tuple(float(offset - log_negative) for offset in offsets))


def _mixture(negative: Sequence[np.ndarray], positive: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return slope and offset of log(rate f1 / f0), and the rate, the most probable ones."""
    margins = np.concatenate([*negative, *positive]).astype(np.float64)
    is_from_positive = np.repeat([0.0, 1.0], [sum(map(len, negative)), sum(map(len, positive))])
    n_bags = 2 * len(negative) * len(positive) / (len(negative) + len(positive))
    weight = np.concatenate(
        [np.full(len(tiles), 1 / len(tiles) / len(bags)) for bags in (negative, positive) for tiles in bags]
    )
    weight *= n_bags * _OBSERVATIONS
    middle = np.average(margins, weights=weight * (1 - is_from_positive))

    def loss(told: np.ndarray) -> float:
        log_odds = np.logaddexp(log_expit(told[2]), np.exp(told[0]) * (margins - middle) + told[1])
        doubt = (told[0] / _SLOPE_DOUBT) ** 2 + ((told[2] - _FLOOR) / _FLOOR_DOUBT) ** 2
        return float(doubt / 2 + weight @ (np.logaddexp(0, log_odds) - is_from_positive * log_odds))

    begins = ([-0.5, -2.0, floor] for floor in (0.0, _FLOOR))
    best = min((minimize(loss, begin, method="L-BFGS-B") for begin in begins), key=lambda found: found.fun).x
    slope = float(np.exp(best[0]))
    return slope, float(best[1] - slope * middle), float(expit(-best[2]))
