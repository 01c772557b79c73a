"""How unlike the training cohort a slide and its tiles are: distance to the nearest of some training centres.

The distance is Mahalanobis' with the spread within clusters, feature by feature, so it works on any
features and for every learner. It says nothing of classes: what is unlike was not learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mil.bag import Bag
from mil.model_files import read_tensors, write_tensors

UNLIKE = "unlike training"  # the flag of a slide
N_QUANTILES = 200  # that stand for all tiles of a slide
_CENTRES, _TILES_A_CENTRE, _TILES_A_BAG, _MOST_TILES = 32, 50, 200, 20_000
_LEAST_SPREAD = 0.1  # of a feature within clusters, as a share of its spread in all
_TILE_QUANTILE = 0.99  # of the held-out tiles are nearer than the limit
_SLIDE_STEPS, _LEAST_STEP = 4.0, 0.05  # robust standard deviations of the mean log distance; their least
_CHUNK = 4096
_FILE = "novelty.safetensors"


@dataclass(frozen=True)
class Centres:
    """Centres of the training tiles, `places` float32 (k, D), and the spread around them, `spread` (D,)."""

    places: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, bags: Sequence[Bag], seed: int) -> "Centres":
        """Return the k-means centres of some tiles of each bag, drawn by `seed`."""
        import faiss  # slow to import, and needed by no verb but `train`

        draw = np.random.default_rng(seed)
        most = max(1, min(_TILES_A_BAG, _MOST_TILES // len(bags)))
        rows = [bag.features[np.sort(draw.permutation(len(bag))[:most])] for bag in bags]
        tiles = np.concatenate(rows).astype(np.float32)
        middle, whole = tiles.mean(axis=0), tiles.std(axis=0)
        whole = np.where(whole > 1e-6 * np.abs(middle) + 1e-12, whole, 1.0).astype(np.float32)
        units = np.ascontiguousarray((tiles - middle) / whole)
        n_centres = min(_CENTRES, max(1, len(units) // _TILES_A_CENTRE))
        bounds = {
            "min_points_per_centroid": 1,
            "max_points_per_centroid": len(units),
        }  # use all
        means: Any = faiss.Kmeans(units.shape[1], n_centres, seed=seed, **bounds)
        means.train(units)
        nearest = means.index.search(units, 1)[1][:, 0]
        within = np.sqrt(np.square(units - means.centroids[nearest]).mean(axis=0))
        return cls(means.centroids * whole + middle, np.maximum(within, _LEAST_SPREAD) * whole)

    def log_distance(self, features: np.ndarray) -> np.ndarray:
        """Return the log of each row's distance from its nearest centre, float32: (N, D) -> (N,)."""
        middle = self.places.mean(axis=0)  # or a feature far from zero would leave a difference no digits
        places = (self.places - middle) / self.spread
        own = np.square(places).sum(axis=1)
        found = []
        for start in range(0, len(features), _CHUNK):
            units = (features[start : start + _CHUNK].astype(np.float32) - middle) / self.spread
            squares = np.square(units).sum(axis=1)[:, None] - 2 * units @ places.T + own
            found.append(np.log(np.maximum(squares.min(axis=1) / len(self.spread), 1e-6)) / 2)
        return np.concatenate([np.zeros(0, np.float32), *found]).astype(np.float32)


def max_logit(probability: np.ndarray) -> np.ndarray:
    """Return the largest logit of each row, float32: (N, T) -> (N,), logits being of mean zero over classes.

    Small where a tile is like no class (arXiv 1911.11132); of two classes half the size of the log odds.
    Probabilities tell logits up to a constant, which that mean fixes.
    """
    logarithms = np.log(np.maximum(probability.astype(np.float64), np.finfo(np.float32).tiny))
    return (logarithms.max(axis=1) - logarithms.mean(axis=1)).astype(np.float32)


def profile(log_distance: np.ndarray) -> np.ndarray:
    """Return 200 quantiles of a slide's log distances, float32: (N,) -> (200,), NaN of no tile."""
    if not len(log_distance):
        return np.full(N_QUANTILES, np.nan, np.float32)
    return np.quantile(log_distance, (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES).astype(np.float32)


@dataclass(frozen=True)
class Novelty:
    """Centres with the limits beyond which tiles and slides are unlike the training.

    Novelty is 1 at the limit. A tile's is its distance over the one that 99 % of held-out tiles have; a
    slide's is how far its mean log distance lies above the median of held-out slides, in steps of four
    robust standard deviations: 0 is usual.
    """

    centres: Centres
    tile_limit: float
    slide_middle: float
    slide_step: float

    @classmethod
    def of(cls, centres: Centres, profiles: np.ndarray) -> "Novelty":
        """Freeze the limits by the profiles (B, 200) of held-out slides, or of none."""
        if not len(profiles):
            return cls(centres, np.inf, 0.0, np.inf)
        means = profiles.mean(axis=1)
        middle = float(np.median(means))
        step = max(1.4826 * float(np.median(np.abs(means - middle))), _LEAST_STEP)
        return cls(centres, float(np.quantile(profiles, _TILE_QUANTILE)), middle, _SLIDE_STEPS * step)

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the novelty of each tile, float32 (N,), and of the slide, NaN of no tile."""
        log_distance = self.centres.log_distance(features)
        slide = (float(profile(log_distance).mean()) - self.slide_middle) / self.slide_step
        return np.exp(log_distance - self.tile_limit), slide

    def save(self, folder: Path) -> None:
        """Write novelty.safetensors into a model's folder."""
        limits = np.array([self.tile_limit, self.slide_middle, self.slide_step])
        told = {"places": self.centres.places, "spread": self.centres.spread, "limits": limits}
        write_tensors(folder / _FILE, told)

    @classmethod
    def load(cls, folder: Path) -> "Novelty":
        """Read novelty.safetensors.

        Raises:
            FormatError: it is not there, or damaged.
        """
        told = read_tensors(folder / _FILE)
        return cls(Centres(told["places"], told["spread"]), *map(float, told["limits"]))
