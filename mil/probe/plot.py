"""The plot of a probe: how well classes are told apart, and what is near a tile."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mil.report.figures import COLOURS, FAINT, INK, STYLE

from .config import SHOTS
from .figures import KNN, LINEAR, NEAR, few_shot_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vPX*"  # with the colours, so that no two encoders of a few dozen are alike
_SHOTS = {few_shot_name(n): f"{n} tile{'s' if n > 1 else ''}\na class" for n in SHOTS}
_METHODS = {KNN: "nearest\nneighbours", LINEAR: "linear\nprobe"}
_GAP = 0.5  # between what was drawn and what all tiles teach
_DASHED: Any = {"color": INK, "linewidth": 0.8, "linestyle": (0, (4, 3)), "zorder": 0}
_WHITE: Any = {"figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
          "font.family": "sans-serif", "axes.titlesize": 9.5}  # fmt: skip


def probe_figure(figures: pd.DataFrame) -> "Figure":
    """Draw the figures of `Probed`: balanced accuracy, AUC, and class against batch if that is known."""
    import matplotlib as mpl  # slow to import
    from matplotlib.figure import Figure

    encoders = list(dict.fromkeys(figures["encoder"]))
    has_batches = "same_batch" in set(figures["figure"])
    ratios = [3.4, 1.6, 2.6] if has_batches else [3.4, 1.6]
    with mpl.rc_context(STYLE | _WHITE):
        whole = Figure(figsize=(1.35 * sum(ratios) + 0.4, 3.9 + 0.16 * len(encoders)), layout="constrained")
        panels = whole.subplots(1, len(ratios), width_ratios=ratios)
        _by_method(panels[0], figures, encoders, "balanced_accuracy", _SHOTS | _METHODS)
        panels[0].set_title("balanced accuracy")
        _by_method(panels[1], figures, encoders, "auc", _METHODS)
        panels[1].set_title("AUC")
        if has_batches:
            _around(panels[2], figures, encoders)
        handles, names = panels[0].get_legend_handles_labels()
        whole.legend(handles, names, loc="outside lower center", ncols=1 if max(map(len, names)) > 40 else 3)
        return whole


def _look(k: int) -> dict[str, Any]:
    colour, marker = COLOURS[k % len(COLOURS)], _MARKERS[k % len(_MARKERS)]
    return {
        "color": colour,
        "marker": marker,
        "markersize": 5,
        "elinewidth": 1,
        "capsize": 2,
        "linewidth": 1.2,
    }


def _of(figures: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The rows that have these values in these columns."""
    rows = np.all([figures[column] == value for column, value in wanted.items()], axis=0)
    return pd.DataFrame(figures[rows])


def _spread(own: pd.DataFrame) -> np.ndarray:
    """How far an interval reaches below and above a figure, (2, n); nothing where there is none."""
    value = own["value"].to_numpy(float)
    return np.nan_to_num(np.abs(np.stack([own[end].to_numpy(float) for end in ("low", "high")]) - value))


def _by_method(
    axes: "Axes", figures: pd.DataFrame, encoders: list[str], figure: str, methods: dict[str, str]
) -> None:
    """Each method a place on the x axis, each encoder a little beside the others there."""
    told = _of(figures, figure=figure)
    there = [method for method in methods if method in set(told["method"])]
    place = {m: k + (_GAP if m in _METHODS and m != there[0] else 0) for k, m in enumerate(there)}
    width = min(0.09, 0.5 / len(encoders))
    for k, encoder in enumerate(encoders):
        own = _of(told, encoder=encoder).set_index("method").loc[there].reset_index()
        beside = (k - (len(encoders) - 1) / 2) * width
        for is_drawn in (True, False):  # a line goes through what differs in the number of tiles alone
            part = pd.DataFrame(own[own["method"].isin(list(_SHOTS)) == is_drawn])
            if len(part):
                axes.errorbar(
                    [place[m] + beside for m in part["method"]], part["value"], yerr=_spread(part),
                    linestyle="-" if is_drawn else "none", label=None if is_drawn else encoder, **_look(k),
                )  # fmt: skip
    _chance(axes, y=float(told["chance"].iloc[0]))
    axes.set_xticks(list(place.values()), [methods[m] for m in there])
    axes.set_xlim(min(place.values()) - 0.5, max(place.values()) + 0.5)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)


def _chance(axes: "Axes", y: float) -> None:
    axes.axhline(y, **_DASHED)
    axes.annotate("chance", (1, y), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8,
                  xytext=(0, 1), textcoords="offset points")  # fmt: skip


def _around(axes: "Axes", figures: pd.DataFrame, encoders: list[str]) -> None:
    by_class, by_batch = (
        _of(figures, method=NEAR, figure=name).set_index("encoder") for name in ("same_class", "same_batch")
    )
    for k, encoder in enumerate(encoders):
        x, y = by_batch.loc[[encoder]], by_class.loc[[encoder]]
        axes.errorbar(x["value"], y["value"], xerr=_spread(x), yerr=_spread(y), linestyle="none", **_look(k))
    axes.axvline(float(by_batch["chance"].iloc[0]), **_DASHED)
    _chance(axes, y=float(by_class["chance"].iloc[0]))
    axes.set(title="neighbours in other groups", xlabel="share of the tile's batch",
             ylabel="share of the tile's class", xlim=(0, 1.02), ylim=(0, 1.02))  # fmt: skip
    axes.text(0.02, 0.99, "↖ better", transform=axes.transAxes, va="top", fontsize=8)
    axes.grid(color=FAINT, linewidth=0.5)
