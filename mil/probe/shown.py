"""The figures of a probe as text: a line for each encoder, intervals below the figures."""

import math

import pandas as pd

from .config import SHOTS
from .figures import KNN, LINEAR, NEAR, few_shot_name

_BALANCED = {KNN: "nearest", LINEAR: "linear"} | {few_shot_name(n): f"{n} a class" for n in SHOTS}
_TABLES = {  # method, figure and heading of the columns
    "balanced accuracy": [(method, "balanced_accuracy", name) for method, name in _BALANCED.items()],
    "AUC, and what is near a tile in other groups": [
        (KNN, "auc", "AUC nearest"), (LINEAR, "auc", "AUC linear"), (NEAR, "same_class", "same class"),
        (NEAR, "same_batch", "same batch"), (NEAR, "robustness", "robustness"),
    ],
}  # fmt: skip

Shown = tuple[list[str], list[list[str]]]


def probe_tables(figures: pd.DataFrame) -> dict[str, Shown]:
    """Return tables by title, headings and lines of each: the encoders, and what chance gives."""
    return {title: _table(figures, columns) for title, columns in _TABLES.items()}


def _table(figures: pd.DataFrame, wanted: list[tuple[str, str, str]]) -> Shown:
    there = set(zip(figures["method"], figures["figure"], strict=True))
    columns = [column for column in wanted if column[:2] in there]
    rows = {(r["encoder"], r["method"], r["figure"]): r for r in figures.to_dict("records")}
    encoders = list(dict.fromkeys(figures["encoder"]))
    lines = [
        [name, *(_cell(rows[name, method, figure]) for method, figure, _ in columns)] for name in encoders
    ]
    chance = [
        "chance",
        *(_number(rows[encoders[0], method, figure]["chance"]) for method, figure, _ in columns),
    ]
    return ["encoder", *(heading for *_, heading in columns)], [*lines, chance]


def _cell(row: dict) -> str:
    ends = "" if math.isnan(row["low"]) else f"\n{_short(row['low'])}–{_short(row['high'])}"
    return _number(row["value"]) + ends


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")
