"""How good the heatmaps are where the truth of tiles is known."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mil.metrics import instance_ap, instance_auc

from .intervals import bootstrap, of_samples, proportion_interval
from .ranking import Ranking
from .truth import SlideTruth, TileTruths

_MOST_LEVELS = 1000  # of tile scores, in resamples
Row = tuple[str, float, float, float, int]


def tile_table(truths: TileTruths) -> pd.DataFrame:
    """Return the figures of tiles: columns figure, value, low, high, n (tiles, or slides of the last ones).

    Tiles are of "positive, of whichever class", and where several classes are drawn of each too. Dice and IoU
    are at the frozen threshold, of all tiles at once. In the pointing game a slide with positive tiles is won
    if its hottest tile is one; `by chance` is their mean share. Intervals are of resampled patients, for
    which scores are cut to 1,000 levels.
    """
    slides = [s for s in truths.slides if len(s.score)]
    positive = [s for s in slides if s.is_positive.any()]
    rows: list[Row] = []
    for told, chosen in (("all slides", slides), ("positive slides", positive)):
        rows += _ranked(chosen, told, lambda s: s.score, lambda s: s.is_positive)
    # of a mask nobody knows which class is meant
    by_class = [s for s in slides if s.truth.shape[1] > 1 or not s.is_positive.any()]
    for c, name in enumerate(truths.classes if any(s.truth.shape[1] > 1 for s in slides) else ()):
        rows += _ranked(
            by_class, f"{name}, all slides", lambda s, c=c: s.by_class[:, c],
            lambda s, c=c: s.truth[:, min(c, s.truth.shape[1] - 1)],
        )  # fmt: skip
    rows += _overlaps(slides) + _pointing(positive)
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high", "n"])


def _ranked(
    slides: Sequence[SlideTruth],
    told: str,
    score_of: Callable[[SlideTruth], np.ndarray],
    truth_of: Callable[[SlideTruth], np.ndarray],
) -> list[Row]:
    """AUC and average precision of tiles."""
    names = (f"tile AUC, {told}", f"tile average precision, {told}")
    score = np.concatenate([np.zeros(0), *(score_of(s) for s in slides)])
    truth = np.concatenate([np.zeros(0, bool), *(truth_of(s) for s in slides)])
    if not len(truth) or truth.all() or not truth.any():
        return [(name, float("nan"), float("nan"), float("nan"), len(score)) for name in names]
    hits, false = _histograms(slides, score_of, truth_of, score)
    patients = np.array([s.patient for s in slides])

    def ranking(weights: np.ndarray) -> Ranking:
        return Ranking(np.cumsum(weights @ hits, axis=1), np.cumsum(weights @ false, axis=1))

    samples = bootstrap(
        lambda w: np.stack([(r := ranking(w)).auc(), r.average_precision()], axis=1), patients
    )
    values = instance_auc(score, truth), instance_ap(score, truth)
    # resamples see a ranking without any mistake through levels, which may mix its classes
    intervals = [
        (float("nan"), float("nan")) if min(value, 1 - value) < 1e-12 else of_samples(samples[:, k])
        for k, value in enumerate(values)
    ]
    return [
        (name, value, *interval, len(score))
        for name, value, interval in zip(names, values, intervals, strict=True)
    ]


def _histograms(
    slides: Sequence[SlideTruth], score_of: Callable, truth_of: Callable, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative tiles of each slide by level of score, the highest first: float64 (S, L)."""
    edges = np.unique(score)
    if len(edges) > _MOST_LEVELS:
        edges = np.unique(np.quantile(score, np.linspace(0, 1, _MOST_LEVELS)))

    def counted(own: np.ndarray) -> np.ndarray:
        place = np.searchsorted(edges, own, side="right") - 1
        return np.bincount(place, minlength=len(edges))[::-1].astype(np.float64)

    hits = np.stack([counted(score_of(s)[truth_of(s)]) for s in slides])
    return hits, np.stack([counted(score_of(s)[~truth_of(s)]) for s in slides])


def _overlaps(slides: Sequence[SlideTruth]) -> list[Row]:
    counts = np.array(
        [[(c & s.is_positive).sum(), c.sum(), s.is_positive.sum()]
         for s in slides for c in [s.score >= s.threshold]], float,
    ).reshape(-1, 3)  # fmt: skip

    def figures(weights: np.ndarray) -> np.ndarray:
        both, called, true = (weights @ counts).T
        whole = np.stack([(called + true) / 2, called + true - both], axis=1)
        return np.divide(both[:, None], whole, out=np.full(whole.shape, np.nan), where=whole > 0)

    names = ("Dice", "intersection over union")
    n_tiles = sum(len(s.score) for s in slides)
    if not slides:
        return [(name, float("nan"), float("nan"), float("nan"), 0) for name in names]
    samples = bootstrap(figures, np.array([s.patient for s in slides]))
    values = figures(np.ones((1, len(slides))))[0]
    return [(name, float(values[k]), *of_samples(samples[:, k]), n_tiles) for k, name in enumerate(names)]


def _pointing(positive: Sequence[SlideTruth]) -> list[Row]:
    """How often the hottest tile of a positive slide is positive; of several equally hot, their share."""
    won = np.array([float(s.is_positive[s.score == s.score.max()].mean()) for s in positive])
    chance = float(np.mean([s.is_positive.mean() for s in positive])) if positive else float("nan")
    value = float(won.mean()) if len(won) else float("nan")
    interval = proportion_interval(won, np.array([s.patient for s in positive]))
    nothing = float("nan")
    return [("pointing game", value, *interval, len(positive)),
            ("pointing game by chance", chance, nothing, nothing, len(positive))]  # fmt: skip
