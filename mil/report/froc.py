"""Free-response ROC: what share of the lesions is found, at how many false positives a slide.

A *detection* is a local maximum of the heatmap: a tile, or touching tiles of one probability, that no tile
touching them exceeds. Tiles touch where they share an edge, a corner or an area. Its place is the tile
nearest to its centre. A *lesion* is a connected area of the truth. A detection finds the lesions that its
tile touches by any part; one that touches none is a false positive. A lesion counts as found from the
highest score on that finds it, once, and further detections in it count as nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .intervals import bootstrap, of_samples

FALSE_POSITIVES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # a slide, as in the CAMELYON challenges
_AT_A_TIME = 4_000_000  # counts in memory, of slides and of resamples by score level


@dataclass(frozen=True)
class SlideDetections:
    """What one slide adds: `lesions` (L,), the highest score that finds each, -inf where none does.

    `false` (F,) are the scores of false positives; `patient` says whose slide it is.
    """

    patient: str
    lesions: np.ndarray
    false: np.ndarray


def local_maxima(centres: np.ndarray, side: float, scores: np.ndarray) -> np.ndarray:
    """Return the rows of the tiles that are detections, in order.

    `centres` float (N, 2) and `side` in one unit, `scores` (N,) without NaN.
    """
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    if not len(centres):
        return np.zeros(0, int)
    pairs = KDTree(centres).query_pairs(side * 1.01, p=np.inf, output_type="ndarray")
    a, b = pairs.T
    n, is_equal = len(scores), scores[a] == scores[b]
    links = coo_array((np.ones(int(is_equal.sum())), (a[is_equal], b[is_equal])), shape=(n, n))
    n_plateaus, plateau = connected_components(links, directed=False)
    is_beaten = np.zeros(n_plateaus, bool)
    is_beaten[plateau[np.where(scores[a] < scores[b], a, b)[~is_equal]]] = True
    counts = np.bincount(plateau)
    middle = np.stack([np.bincount(plateau, c) / counts for c in centres.T], axis=1)
    distance = np.square(centres - middle[plateau]).sum(axis=1)
    order = np.lexsort((np.arange(n), distance, plateau))
    first = order[np.searchsorted(plateau[order], np.arange(n_plateaus))]  # nearest to its plateau's middle
    return np.sort(first[~is_beaten])


def froc_levels(slides: Sequence[SlideDetections], weights: np.ndarray) -> np.ndarray:
    """Return the sensitivity at `FALSE_POSITIVES`, (R, 6), each slide counting `weights` (R, S) times.

    That is the highest one of all score levels with no more false positives a slide; NaN without a lesion.
    """
    lesions = np.concatenate([s.lesions for s in slides])
    levels = np.append(np.unique(lesions[np.isfinite(lesions)]), np.inf)  # it changes at no other level
    total = weights @ np.array([float(len(s.lesions)) for s in slides])
    most = np.array(FALSE_POSITIVES) * weights.sum(axis=1, keepdims=True) + 1e-9
    found = np.full(most.shape, np.nan)
    at_a_time = max(1, _AT_A_TIME // (len(slides) + len(weights)))
    for start in range(0, len(levels), at_a_time):
        own = levels[start : start + at_a_time]
        hits = weights @ np.stack([_from_level(s.lesions, own) for s in slides])
        wrong = weights @ np.stack([_from_level(s.false, own) for s in slides])
        for k, each in enumerate(most.T):
            # levels go up, so the first one that is strict enough finds the most
            n_lax = (wrong > each[:, None]).sum(axis=1)
            new = np.flatnonzero(np.isnan(found[:, k]) & (n_lax < len(own)))
            found[new, k] = hits[new, n_lax[new]]
    return np.divide(found, total[:, None], out=np.full(found.shape, np.nan), where=total[:, None] > 0)


def _from_level(scores: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """How many scores lie at or above each level, float64 (L,)."""
    return (len(scores) - np.searchsorted(np.sort(scores), levels)).astype(np.float64)


def froc_table(slides: Sequence[SlideDetections]) -> pd.DataFrame:
    """Return the sensitivity at each number of false positives a slide, and their mean, with intervals.

    Columns: false_positives (a slide; "mean" in the last row), sensitivity, low, high (by resampled
    patients). NaN where there is no lesion.
    """
    rows = froc_levels(slides, np.ones((1, len(slides))))[0] if slides else np.full(6, np.nan)
    low = high = np.full(len(rows) + 1, np.nan)
    if slides and not np.isnan(rows[0]):
        patients = np.array([s.patient for s in slides])
        samples = bootstrap(lambda w: froc_levels(slides, w), patients)
        each = np.column_stack([samples, samples.mean(axis=1)])
        low, high = np.array([of_samples(own) for own in each.T]).T
    names = [f"{each:g}" for each in FALSE_POSITIVES] + ["mean"]
    values = np.append(rows, rows.mean())
    return pd.DataFrame({"false_positives": names, "sensitivity": values, "low": low, "high": high})


def froc_curve(slides: Sequence[SlideDetections]) -> pd.DataFrame:
    """Return the curve where it rises, from the top: score, false_positives a slide, sensitivity."""
    lesions, false = (np.concatenate([np.zeros(0), *each]) for each in
                      ([s.lesions for s in slides], [s.false for s in slides]))  # fmt: skip
    levels = np.unique(lesions[np.isfinite(lesions)])[::-1]
    sensitivity = _from_level(lesions, levels) / max(1, len(lesions))
    wrong = _from_level(false, levels) / max(1, len(slides))
    return pd.DataFrame({"score": levels, "false_positives": wrong, "sensitivity": sensitivity})
