"""Results by site, scanner or any other column: does the model work alike everywhere, or follow the batch?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .predicted import Predicted
from .tables import SMALL_GROUP, headline

MOST_GROUPS = 20
OTHER, NOT_GIVEN = "other", "not given"
_MOST_NUMBERS = 6  # different ones, up to which each is a group


def group_names(values: Sequence[str]) -> np.ndarray:
    """Return the group of each value of a column, text (B,).

    Numbers of more than six different values are cut into quarters; beyond 20 groups the rarest are "other".
    An empty value is "not given".
    """
    told = pd.Series(values, dtype=str).str.strip()
    numbers = pd.to_numeric(told.where(told != ""), errors="coerce")
    if numbers.notna().sum() == (told != "").sum() and numbers.nunique() > _MOST_NUMBERS:
        quarter = pd.qcut(numbers, 4, duplicates="drop")
        least = numbers.min()
        told = pd.Series(
            ["" if pd.isna(q) else f"{max(q.left, least):.4g} to {q.right:.4g}" for q in quarter]
        )
    told = told.where(told != "", NOT_GIVEN)
    often = told.value_counts().index[: MOST_GROUPS - 1]
    if told.nunique() > MOST_GROUPS:
        told = told.where(told.isin(often), OTHER)
    return told.to_numpy(str)


def by_group(predicted: Predicted, groups: np.ndarray) -> pd.DataFrame:
    """Return figures of each group (B,), in the order of their names or numbers.

    Columns: group, n, n_patients, is_small (fewer than 10 patients, or fewer than 3 rows of a class or of the
    rest), for each class its `share(<class>)` and `mean p(<class>)`, auc and accuracy with `_low` and `_high`.
    """
    names = sorted(set(groups.tolist()), key=_place)
    return pd.DataFrame([_of_group(predicted.of(groups == name), name) for name in names])


def _place(name: str) -> tuple[bool, float, str]:
    number = pd.to_numeric(name.partition(" ")[0], errors="coerce")
    return name in (OTHER, NOT_GIVEN), float("inf") if pd.isna(number) else float(number), name


def _of_group(p: Predicted, name: str) -> dict[str, object]:
    positive = p.truth[:, p.judged].sum(axis=0)
    n_patients = len(set(p.patients))
    is_small = n_patients < SMALL_GROUP or bool((np.minimum(positive, len(p) - positive) < 3).any())
    told: dict[str, object] = {"group": name, "n": len(p), "n_patients": n_patients, "is_small": is_small}
    for c in p.judged:
        told |= {f"share({p.names[c]})": float(p.truth[:, c].mean())}
        told |= {f"mean p({p.names[c]})": float(p.probability[:, c].mean())}
    for row in headline(p).to_dict("records"):
        if row["figure"] in ("AUC", "accuracy"):
            key = row["figure"].lower()
            told |= {key: row["value"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
    return told


def batch_effects(predicted: Predicted, groups: np.ndarray) -> pd.DataFrame:
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
    each = frame.groupby(["patient", "group"], as_index=False)["value"].mean()
    return pd.DataFrame(each[each.groupby("group")["value"].transform("size") >= 3])


def _kruskal(own: pd.DataFrame) -> tuple[float, int]:
    from scipy.stats import kruskal  # slow to import

    samples = [each.to_numpy() for _, each in own.groupby("group")["value"]]
    if len(samples) < 2 or own["value"].nunique() < 2:
        return float("nan"), len(own)
    return float(kruskal(*samples).pvalue), len(own)


def _chi2(own: pd.DataFrame) -> tuple[float, int]:
    from scipy.stats import chi2_contingency  # slow to import

    counts = pd.crosstab(own["group"], own["value"] > 0)
    if min(counts.shape) < 2:
        return float("nan"), len(own)
    return float(chi2_contingency(counts).pvalue), len(own)


