"""Several learners on the same slides: areas under the ROC compared by DeLong's test."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from tiling import ConfigError

from .delong import delong_test
from .predicted import Predicted


def comparison_table(models: Mapping[str, Predicted]) -> pd.DataFrame:
    """Return each pair of models compared on the slides, or patients, that both predicted.

    Columns: class, model, other, n, auc, other_auc, difference, low, high, p_value. p-values are not adjusted
    for the number of pairs. NaN where a class is absent.

    Raises:
        ConfigError: two models are of other classes, of other units, share nothing, or labels differ.
    """
    rows = []
    for (name, first), (other_name, second) in combinations(models.items(), 2):
        a, b = _matched(name, first, other_name, second)
        for c in a.judged:
            rows.append((a.names[c], name, other_name, len(a), *_tested(a, b, c)))
    columns = ["class", "model", "other", "n", "auc", "other_auc", "difference", "low", "high", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def _matched(name: str, a: Predicted, other: str, b: Predicted) -> tuple[Predicted, Predicted]:
    pair = f"{name} and {other}"
    if (a.names, a.unit, a.is_exclusive) != (b.names, b.unit, b.is_exclusive):
        raise ConfigError(
            f"{pair} predict {', '.join(a.names)} of {a.unit}s and {', '.join(b.names)} of {b.unit}s",
            hint="compare runs of the same labels",
        )
    both, mine, theirs = np.intersect1d(a.ids, b.ids, return_indices=True)
    if not len(both):
        raise ConfigError(f"{pair} have no {a.unit} in common", hint="compare runs of the same slides")
    a, b = a.of(mine), b.of(theirs)
    differing = both[(a.truth != b.truth).any(axis=1)]
    if len(differing):
        raise ConfigError(
            f"{pair} have other labels for {differing[0]!r} ({len(differing)} in all)",
            hint="train both on the same table",
        )
    return a, b


def _tested(a: Predicted, b: Predicted, c: int) -> tuple[float, ...]:
    truth = a.truth[:, c]
    if truth.all() or not truth.any():
        return (float("nan"),) * 6
    told = delong_test(a.probability[:, c], b.probability[:, c], truth, a.patients)
    return told.auc, told.other_auc, told.difference, *told.interval, told.p_value
