"""Ways to calibrate tiles from bag labels alone, side by side on margins whose truth is drawn.

Raw margins; isotonic regression of "from a positive bag" with the floor at the lower end of the two
distributions; and the line of `mil.calibration`. Printed: ECE and Brier score of other bags' tiles,
means over shapes of the margins, rates of positive tiles and seeds, then the worst ECE of all.

    python bench/calibration.py
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import logit
from sklearn.isotonic import IsotonicRegression

from mil.calibration.lines import margins_of, to_probability
from mil.calibration.tiles import tile_lines
from mil.metrics import brier, calibration_error

RATES, SHAPES, N_TILES = (0.02, 0.1, 0.4), ("gauss", "wide", "skew"), 80
Margins = Sequence[np.ndarray]


def draw(rng: np.random.Generator, n_bags: int, rate: float, shape: str):
    """Return margins (n, 1) a bag of an overconfident learner, bag labels, the truth of all tiles."""
    bags, truth, labels = [], [], np.arange(n_bags) % 2
    for label in labels:
        share = min(rate * rng.lognormal(0, 0.5), 0.95)
        found = (np.arange(N_TILES) < max(1, round(N_TILES * share))) & (label == 1)
        if shape == "gauss":
            margins = rng.normal(2.5 * found)
        elif shape == "wide":
            margins = np.where(found, rng.normal(2.5, 1.8, N_TILES), rng.normal(0, 0.8, N_TILES))
        else:
            margins = np.where(found, 1.2 * rng.gamma(3, 1, N_TILES), 1 - rng.gamma(2, 0.8, N_TILES))
        bags.append((2.2 * (margins + rng.normal(0, 0.35)) - 2)[:, None])
        truth.append(found)
    return bags, labels, np.concatenate(truth).astype(int)


def isotonic(bags: Margins, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Density ratio by isotonic regression; its floor where f / f0 is least beyond one standard error."""
    margins = np.concatenate(bags)[:, 0]
    is_positive = np.repeat(labels, [len(bag) for bag in bags])
    odds_of = IsotonicRegression(y_min=1e-4, y_max=1 - 1e-4, out_of_bounds="clip").fit(margins, is_positive)
    places = np.append(np.quantile(margins[is_positive == 0], np.linspace(0.1, 1, 40)[:-1]), np.inf)
    below = np.array([(bag <= places).mean(axis=0) for bag in bags])
    (f, f_error), (f0, f0_error) = (
        (below[labels == y].mean(0), below[labels == y].std(0) / np.sqrt((labels == y).sum())) for y in (1, 0)
    )
    ratio = f / f0
    floor = min(1.0, ratio[np.argmin(ratio + np.hypot(f_error / f0, ratio * f0_error / f0))])

    def calibrated(probability: np.ndarray) -> np.ndarray:
        density = np.exp(logit(odds_of.predict(margins_of(probability)[:, 0])))
        odds = 0.5 / (1 - 0.5 * (1 - floor)) * np.maximum(density - floor, 0)
        return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)

    return calibrated


WAYS = {"raw": lambda bags, labels: lambda p: p, "isotonic": isotonic, "line": tile_lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bags", type=int, nargs="+", default=[6, 12, 24, 60])
    parser.add_argument("--seeds", type=int, default=5)
    told = parser.parse_args()
    print(f"{'way':<10}{'bags':>6}{'ECE':>8}{'Brier':>8}{'worst ECE':>11}")
    for n_bags in told.bags:
        found: dict[str, list] = {way: [] for way in WAYS}
        for rate, shape, seed in ((r, s, k) for r in RATES for s in SHAPES for k in range(told.seeds)):
            rng = np.random.default_rng(seed)
            bags, labels, _ = draw(rng, n_bags, rate, shape)
            others, _, truth = draw(rng, 60, rate, shape)
            probability = to_probability(np.concatenate(others))
            for way, fit in WAYS.items():
                after = fit(bags, labels)(probability)
                found[way].append((calibration_error(after, truth), brier(after, truth)))
        for way, errors in found.items():
            (ece, score), worst = np.mean(errors, axis=0), np.max(errors, axis=0)[0]
            print(f"{way:<10}{n_bags:>6}{ece:>8.3f}{score:>8.3f}{worst:>11.3f}")


if __name__ == "__main__":
    main()
