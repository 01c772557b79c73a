"""Results by site, scanner or any other column: does the model work alike everywhere, or follow the batch?"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from .predicted import Predicted
from .tables import SMALL_GROUP, headline_table

MOST_GROUPS = 20
OTHER, NOT_GIVEN = "other", "not given"
_MOST_NUMBERS = 6  # different ones, up to which each is a group


def group_names(values: Sequence[str]) -> np.ndarray:
    """Return the group of each value of a column, text (B,).

    Numbers of more than six different values are cut into quarters; beyond 20 groups the rarest are
    "other". An empty value is "not given".
    """
    told = np.char.strip(np.array(values, str))
    numbers = np.array([_number(text) for text in told])
    if np.isnan(numbers)[told != ""].any() or len(np.unique(numbers[told != ""])) <= _MOST_NUMBERS:
        told = np.where(told == "", NOT_GIVEN, told)
        names, counts = np.unique(told, return_counts=True)
        often = names[np.argsort(-counts, kind="stable")][: MOST_GROUPS - 1]
        return told if len(names) <= MOST_GROUPS else np.where(np.isin(told, often), told, OTHER)
    edges = np.unique(np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
    place = np.clip(np.searchsorted(edges, numbers) - 1, 0, len(edges) - 2)
    quarters = np.array([f"{low} to {high}" for low, high in pairwise(_written(edges))])
    return np.where(told == "", NOT_GIVEN, quarters[place])


def _written(edges: np.ndarray) -> list[str]:
    """Numbers that differ as texts that differ, of four digits or as many as that takes."""
    texts = ([f"{edge:.{digits}g}" for edge in edges] for digits in range(4, 18))
    return next(told for told in texts if len(set(told)) == len(edges))


def _number(text: str) -> float:
    """The number that a text is, NaN if it is none, or none that quarters can be told of."""
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    return value if math.isfinite(value) else float("nan")


def group_table(predicted: Predicted, groups: np.ndarray) -> pd.DataFrame:
    """Return figures of each group (B,), in the order of their names or numbers.

    Columns: group, n, n_patients, is_small (fewer than 10 patients, or fewer than 3 rows of a class or of
    the rest), for each class its `share(<class>)` and `mean p(<class>)`, auc and accuracy with
    `_low` and `_high`.
    """
    names = sorted(set(groups.tolist()), key=_place)
    return pd.DataFrame([_of_group(predicted.of(groups == name), name) for name in names])


def _place(name: str) -> tuple[bool, float, str]:
    number = _number(name.partition(" ")[0])
    return name in (OTHER, NOT_GIVEN), float("inf") if np.isnan(number) else number, name


def _of_group(p: Predicted, name: str) -> dict[str, object]:
    positive = p.truth[:, p.judged].sum(axis=0)
    n_patients = len(set(p.patients))
    is_small = n_patients < SMALL_GROUP or bool((np.minimum(positive, len(p) - positive) < 3).any())
    told: dict[str, object] = {"group": name, "n": len(p), "n_patients": n_patients, "is_small": is_small}
    for c in p.judged:
        told |= {f"share({p.names[c]})": float(p.truth[:, c].mean())}
        told |= {f"mean p({p.names[c]})": float(p.probability[:, c].mean())}
    for row in headline_table(p).to_dict("records"):
        if row["figure"] in ("AUC", "accuracy"):
            key = row["figure"].lower()
            told |= {key: row["value"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
    return told


def batch_effect_table(predicted: Predicted, groups: np.ndarray) -> pd.DataFrame:
    """Return whether groups differ though the label is the same, and whether they differ in labels.

    Columns: question, class, p_value, n (patients). The first question is answered by the test of Kruskal and
    Wallis on the mean probability of each patient, the second by a chi-squared test of patients by group and
    label. A group counts from three patients on; NaN where fewer than two groups do.
    """
    p, rows = predicted, []
    for c in p.judged:
        name = p.names[c]
        for truth, told in ((False, f"not {name}"), (True, name)):
            chosen = p.truth[:, c] == truth
            question = f"does p({name}) differ between groups, of those labelled {told}?"
            own = _per_patient(p.probability[chosen, c], p.patients[chosen], groups[chosen])
            rows.append((question, name, *_kruskal(own)))
        labels = _per_patient(p.truth[:, c].astype(float), p.patients, groups)
        rows.append((f"does the share of {name} differ between groups?", name, *_chi2(labels)))
    return pd.DataFrame(rows, columns=["question", "class", "p_value", "n"])


def _per_patient(values: np.ndarray, patients: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame({"value": values, "patient": patients, "group": groups})
    each = pd.DataFrame(frame.groupby(["patient", "group"])["value"].mean()).reset_index()
    names, counts = np.unique(each["group"], return_counts=True)
    return pd.DataFrame(each[each["group"].isin(names[counts >= 3].tolist())])


def _kruskal(own: pd.DataFrame) -> tuple[float, int]:
    from scipy.stats import kruskal  # slow to import

    samples = [each.to_numpy() for _, each in own.groupby("group")["value"]]
    if len(samples) < 2 or len(set(own["value"])) < 2:
        return float("nan"), len(own)
    return float(kruskal(*samples)[1]), len(own)


def _chi2(own: pd.DataFrame) -> tuple[float, int]:
    from scipy.stats import chi2_contingency  # slow to import

    counts = pd.crosstab(own["group"], own["value"] > 0)
    if min(counts.shape) < 2:
        return float("nan"), len(own)
    return float(chi2_contingency(counts.to_numpy())[1]), len(own)  # type: ignore[arg-type]
