"""The report's figures, made from its frames with matplotlib; `to_svg` writes one with text as text.

Colours are of Okabe and Ito, which readers with any kind of colour vision can tell apart, and lines differ in
their dashes too.
"""

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#222322", "#c9cac9"  # of letters and axes, and of what guides the eye
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MOST_BANDS = 3  # more would lie on each other
_MOST_IN_AXES = 6  # lines of a legend: more would hide the curves
_MOST_LARGE = 8  # classes of a confusion matrix with large cells
STYLE: Any = {
    "font.family": "serif", "font.size": 9, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.7, "xtick.major.width": 0.7,
    "ytick.major.width": 0.7, "lines.linewidth": 1.5, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "legend.fontsize": 8, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "svg.fonttype": "none", "text.parse_math": False,
}  # fmt: skip


@contextmanager
def _axes(x: str, y: str, size: tuple[float, float] = (3.6, 3.4)) -> Iterator[tuple["Figure", "Axes"]]:
    """An empty pair of axes of the report's look."""
    import matplotlib as mpl  # slow to import
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield figure, axes


def _square(axes: "Axes") -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")


def _line(k: int) -> dict[str, Any]:
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": _DASHES[(k // len(COLOURS) + k) % len(_DASHES)]}


_Place = Literal["lower left", "lower right", "upper center", "upper right"]


def _legend(figure: "Figure", axes: "Axes", place: _Place) -> None:
    """Say which line is which: at a `place` of the axes, or where there are many below them."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) <= _MOST_IN_AXES:
        axes.legend(loc=place)
        return
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.3 + 0.17 * math.ceil(len(names) / 2))
    figure.legend(handles, names, loc="outside lower center", ncols=2, borderaxespad=1)


def _classes(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), own) for name, own in frame.groupby("class", sort=False)]


def _band(axes: "Axes", x: Any, own: pd.DataFrame, k: int, **how: Any) -> None:
    axes.fill_between(x, own["low"].astype(float), own["high"].astype(float), color=COLOURS[k % len(COLOURS)],
                      alpha=0.18, linewidth=0, **how)  # fmt: skip


def _spread(own: Any, name: str) -> np.ndarray:
    """How far an interval reaches below and above a figure, (2, n)."""
    return np.abs(np.stack([own[end].to_numpy(float) for end in ("low", "high")]) - own[name].to_numpy(float))


def roc_figure(curves: pd.DataFrame) -> "Figure":
    """Draw the frame of `roc_curves`."""
    with _axes("1 − specificity", "sensitivity") as (figure, axes):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, zorder=0)
        each = _classes(curves)
        for k, (name, own) in enumerate(each):
            if len(each) <= MOST_BANDS:
                _band(axes, own["false_positive_rate"], own, k)
            axes.plot(own["false_positive_rate"], own["sensitivity"], label=_short(name), **_line(k))
        _square(axes)
        _legend(figure, axes, "lower right")
        return figure


def precision_recall_figure(curves: pd.DataFrame) -> "Figure":
    """Draw the frame of `precision_recall_curves`."""
    with _axes("recall (sensitivity)", "precision (positive predictive value)") as (figure, axes):
        each = _classes(curves)
        for k, (name, own) in enumerate(each):
            if len(each) <= MOST_BANDS:
                _band(axes, own["recall"], own, k, step="pre")
            axes.plot(own["recall"], own["precision"], drawstyle="steps-pre", label=_short(name), **_line(k))
        _square(axes)
        _legend(figure, axes, "lower left")
        return figure


def calibration_figure(curves: pd.DataFrame) -> "Figure":
    """Draw the frame of `calibration_curves`: after calibration with intervals, before it faintly."""
    with _axes("mean probability in the bin", "share that is so") as (figure, axes):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, zorder=0)
        has_bars = len(set(curves["class"])) <= MOST_BANDS
        for k, (name, both) in enumerate(_classes(curves)):
            before, own = (both[both["when"] == when] for when in ("before", "after"))
            if not np.allclose(before["mean_probability"], own["mean_probability"]):
                axes.plot(
                    before["mean_probability"], before["share"], marker="o", markersize=3, linewidth=0.8,
                    color=COLOURS[k % len(COLOURS)], alpha=0.4, label=f"{_short(name)}, before",
                )  # fmt: skip
            spread = _spread(own, "share")
            axes.errorbar(
                own["mean_probability"], own["share"], yerr=spread if has_bars else None, marker="o",
                markersize=4, elinewidth=0.8, label=_short(name), **_line(k),
            )  # fmt: skip
        _square(axes)
        _legend(figure, axes, "lower right")
        return figure


def decision_figure(curves: pd.DataFrame) -> "Figure":
    """Draw the frame of `decision_curves`: net benefit of the model, of acting on all, and on none."""
    with _axes("threshold probability", "net benefit", (4.0, 3.0)) as (figure, axes):
        axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        each, top = _classes(curves), 0.05
        for k, (name, own) in enumerate(each):
            x, top = own["threshold"], max(top, float(own[["model", "all"]].max().max()))
            if len(each) <= MOST_BANDS:
                _band(axes, x, own, k)
            axes.plot(x, own["model"], label=_short(name), **_line(k))
            axes.plot(x, own["all"], color=COLOURS[k % len(COLOURS)], linewidth=0.8, alpha=0.6,
                      label="act on all" if len(each) == 1 else None)  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(-0.3 * top, 1.1 * top))
        _legend(figure, axes, "upper right")
        return figure


def confusion_figure(counts: pd.DataFrame) -> "Figure":
    """Draw the frame of `confusion_table`: counts, shaded by their share of the row."""
    n_rows, n_columns = counts.shape
    values = counts.to_numpy(float)
    share = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    longest = max(len(_short(name)) for name in counts.index)
    side = 0.75 if max(n_rows, n_columns) <= _MOST_LARGE else 0.45
    size = (0.9 + 0.08 * longest + side * n_columns, 1.0 + side * n_rows)
    with _axes("called", str(counts.index.name or "label"), size) as (figure, axes):
        for (row, column), n in np.ndenumerate(values):
            axes.add_patch(_cell(column, row, float(share[row, column])))
            axes.text(column, row, f"{n:.0f}", ha="center", va="center")
        axes.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5), aspect="equal",
                 xticks=range(n_columns), yticks=range(n_rows))  # fmt: skip
        axes.set_xticklabels(
            [_short(c) for c in counts.columns], rotation=30 if n_columns > 3 or longest > 9 else 0
        )
        axes.set_yticklabels([_short(c) for c in counts.index])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return figure


def _cell(column: int, row: int, share: float) -> Any:
    from matplotlib.patches import Rectangle  # slow to import

    box = (column - 0.48, row - 0.48)
    return Rectangle(box, 0.96, 0.96, facecolor=COLOURS[0], alpha=0.06 + 0.5 * share, edgecolor=FAINT)


def _short(name: object) -> str:
    text = str(name)
    if text.startswith("_"):
        text = f"\u200b{text}"  # a label that begins with "_" is left out of legends
    return text if len(text) <= 18 else f"{text[:17]}…"


def froc_figure(curve: pd.DataFrame, at: pd.DataFrame) -> "Figure":
    """Draw the frames of `froc_curve` and `froc_table`."""
    with _axes("false positives a slide", "sensitivity (lesions found)", (4.0, 3.0)) as (figure, axes):
        points = at[at["false_positives"] != "mean"]
        x = points["false_positives"].astype(float)
        end = max(8.0, *x)
        shown = pd.DataFrame(curve[curve["false_positives"] <= end])
        wrong = np.append(shown["false_positives"], end)
        found = np.append(shown["sensitivity"], shown["sensitivity"].iloc[-1] if len(shown) else np.nan)
        axes.plot(wrong, found, drawstyle="steps-post", **_line(0))
        spread = _spread(points, "sensitivity")
        axes.errorbar(
            x, points["sensitivity"], yerr=spread, fmt="o", markersize=4, color=COLOURS[0], elinewidth=0.8
        )
        axes.set_xscale("symlog", linthresh=0.25, linscale=0.4)
        axes.set_xticks([0, *x], ["0", "1/4", "1/2", *(f"{each:g}" for each in x[2:])])
        axes.minorticks_off()
        axes.set(xlim=(0, 9), ylim=(-0.01, 1.02))
        return figure


def groups_figure(groups: pd.DataFrame) -> "Figure":
    """Draw the AUC of each group of `group_table` with its interval; small groups are hollow."""
    with _axes("AUC", "", (4.0, 0.9 + 0.26 * len(groups))) as (figure, axes):
        for k, row in enumerate(groups.to_dict("records")):
            axes.plot([row["auc_low"], row["auc_high"]], [k, k], color=COLOURS[0], linewidth=0.9)
            axes.plot(row["auc"], k, "o", color=COLOURS[0], markersize=5,
                      markerfacecolor="none" if row["is_small"] else COLOURS[0])  # fmt: skip
        axes.axvline(0.5, color=FAINT, linewidth=0.8, zorder=0)
        axes.set(xlim=(-0.01, 1.02), ylim=(len(groups) - 0.5, -0.5), yticks=range(len(groups)))
        axes.set_yticklabels([_short(f"{r['group']}") for r in groups.to_dict("records")])
        return figure


def probability_figure(probability: Mapping[str, np.ndarray], x: str, counted: str = "slides") -> "Figure":
    """Draw how often each probability was given: a histogram line for each group of slides, by its name."""
    with _axes(x, counted, (4.0, 2.6)) as (figure, axes):
        for k, (name, own) in enumerate(probability.items()):
            counts, edges = np.histogram(own, bins=20, range=(0, 1))
            axes.stairs(counts, edges, label=_short(name), linewidth=1.3, **_line(k))
        axes.set(xlim=(0, 1), ylim=(0, None))
        axes.locator_params(axis="y", integer=True)
        _legend(figure, axes, "upper center")
        return figure


def to_svg(figure: "Figure", name: str) -> str:
    """Return a figure as SVG of the report's fonts; `name` keeps its ids apart from other figures'."""
    import matplotlib as mpl  # slow to import

    text = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        # of letters that matplotlib's font lacks: they are text in the file, which the browser draws
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        # no date and no link: the same figure is the same file
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    whole = text.getvalue()
    return whole[whole.index("<svg") :]
