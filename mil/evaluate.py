"""The verb `evaluate`: how good the stored predictions and scores are, against labels and known truth."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tiling import FormatError, load_grid, replacing

from .classes import SEPARATOR, SET_MARK, members, names_in
from .metrics import brier, calibration_error, class_aucs, dice, instance_ap, instance_auc, slide_auc
from .predictions import class_names, load_predictions, rows_by_slide, slides_of, unknown_labels
from .run_folder import Run
from .scores import load_scores
from .truth_masks import load_truth_mask, positive_tiles

_COLUMNS = ("label", "p(<class>)", "uncalibrated(<class>)", "prediction", "set", "threshold")


@dataclass(frozen=True)
class Evaluation:
    """Figures of merit by name; NaN where undefined, as an AUC of one class."""

    figures: dict[str, float]


def evaluate(run: Run, truth: Path | None = None) -> Evaluation:
    """Measure a run's predictions against its slides' labels and, if given, its tiles against masks.

    `truth` is a folder of 8-bit PNG masks `<slide_id>.png`, each over its whole slide at any scale,
    128 or more on what is positive; a tile is positive if at least half of its area is.

    Slides with a label that the model does not know are left out, and told on stderr, as is how many slides
    have another label in slides.csv by now.

    Raises:
        FormatError: the run has no predictions, or no predicted slide has a label that the model knows.
    """
    rows = load_predictions(run, *_COLUMNS)
    names = class_names(rows)
    if changed := changed_labels(run, rows):
        print(f"evaluate: {changed}", file=sys.stderr)
    labelled = _labelled(run, rows, names)
    figures = bag_figures(labelled, names)
    if truth is not None:
        of = rows_by_slide(run, "label", "tile_threshold")
        thresholds = {
            i: float(row["tile_threshold"]) for i, row in of.items() if _is_known(row["label"], names)
        }
        figures |= tile_figures(run, truth, thresholds)
    with replacing(run.root / "evaluation.json") as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n")
    return Evaluation(figures)


def _labelled(run: Run, rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The rows to measure, of the labels that the model knows."""
    again = "`slidebag predict MODEL SLIDES RUN --table T` brings"
    if not any(rows["label"]):
        raise FormatError(f"{run.root}: no predicted slide has a label", hint=f"{again} the labels")
    is_known = np.array([_is_known(label, names) for label in rows["label"]])
    one = "slide" if "slide_id" in rows.columns else "patient"
    who, told = unknown_labels(rows["label"], names, one)
    if not is_known.any():
        raise FormatError(
            f"{run.root}: no predicted slide has a label that the model knows {told}",
            hint=f"correct the slide table; {again} its labels",
        )
    if who:
        print(f"evaluate: left out: {who} that the model does not know {told}", file=sys.stderr)
    return pd.DataFrame(rows[is_known])


def changed_labels(run: Run, rows: pd.DataFrame) -> str:
    """Return which `rows` of predictions.csv have another label in slides.csv by now, in words, or "".

    Raises:
        FormatError: columns are missing in slides.csv.
    """
    if not (run.root / "slides.csv").is_file():  # predictions alone can be measured too
        return ""
    slides = run.slides()
    now = dict(zip(slides["slide_id"], map(names_in, slides["label"]), strict=True))
    one = "slide" if "slide_id" in rows.columns else "patient"
    # where classes do not exclude each other, a negative slide does not make its patient so
    negative = set(class_names(rows)[:1]) if rows["threshold"].str.contains(SEPARATOR).any() else set()
    changed = []
    for row in rows.to_dict("records"):
        found = {name for slide_id in slides_of(row) for name in now.get(slide_id, ())}
        is_known = now.keys() >= set(slides_of(row))
        if is_known and set(names_in(row["label"])) not in (found, found - negative or found):
            changed.append(row[f"{one}_id"])
    if not changed:
        return ""
    which = f"{len(changed)} of {len(rows)} {one}s have another label in slides.csv than when predicted"
    return f"{which}, the first is {changed[0]}: train or predict again"


def _is_known(label: str, names: Sequence[str]) -> bool:
    return bool(label) and set(names_in(label)) <= set(names)


def bag_figures(labelled: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Return the figures of predicted slides or patients: rows of predictions.csv, labelled with `names`.

    Of three or more classes the AUC is of each against the rest, and their mean. Where classes do not
    exclude each other, accuracy is of all classes of a slide at once, balanced accuracy and coverage of
    each class.
    """
    after, before = (
        labelled.filter([f"{what}({n})" for n in names]).to_numpy(float) for what in ("p", "uncalibrated")
    )
    truth, called = (members(labelled[c].map(names_in), names) for c in ("label", "prediction"))
    in_set = members(labelled["set"].str.split(SET_MARK, regex=False), names)
    is_exclusive = not labelled["threshold"].str.contains(SEPARATOR).any()
    hits = [(called[truth[:, c], c]).mean() for c in range(len(names)) if truth[:, c].any()]
    if not is_exclusive:
        hits += [(~called[~truth[:, c], c]).mean() for c in range(len(names)) if not truth[:, c].all()]
    labels = truth.argmax(1) if is_exclusive else truth
    one = "slide" if "slide_id" in labelled.columns else "patient"
    figures = {
        f"{one}s": float(len(labelled)),
        f"{one}_auc": slide_auc(after, labels),
        f"{one}_accuracy": float((called == truth).all(axis=1).mean()),
        f"{one}_balanced_accuracy": float(np.mean(hits)),
        **_calibration(one, after, before, labels),
        "set_coverage": float(in_set[truth].mean()),
        "set_size": float(in_set.sum(axis=1).mean()),
    }
    if len(names) > 2 or not is_exclusive:
        aucs = class_aucs(after, labels)
        figures |= {f"{one}_auc({name})": auc for name, auc in zip(names, aucs, strict=True)}
    return figures


def _calibration(what: str, after: np.ndarray, before: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {
        f"{what}_ece": calibration_error(after, truth),
        f"{what}_ece_uncalibrated": calibration_error(before, truth),
        f"{what}_brier": brier(after, truth),
        f"{what}_brier_uncalibrated": brier(before, truth),
    }


def tile_figures(run: Run, truth: Path, thresholds: dict[str, float]) -> dict[str, float]:
    """Return tile AUC over all tiles and in positive slides, AP there, Dice at each slide's threshold.

    ECE and Brier score are of "positive, of whichever class".
    """
    scores, before, truths, calls, slide_of = [], [], [], [], []
    for number, (slide_id, threshold) in enumerate(sorted(thresholds.items())):
        grid = load_grid(run.grid_path(slide_id))
        stored = load_scores(run.scores_path(slide_id), grid=grid)
        suspicion = stored.probability[:, 1:].sum(axis=1)  # 1 - p(negative) would be rounded
        undone = stored.calibration.undo(stored.probability) if stored.calibration else stored.probability
        is_positive = positive_tiles(grid, load_truth_mask(truth / f"{slide_id}.png"))
        read = ~np.isnan(suspicion)
        scores.append(suspicion[read])
        before.append(undone[read, 1:].sum(axis=1))
        truths.append(is_positive[read])
        calls.append(suspicion[read] >= threshold)
        slide_of.append(np.full(int(read.sum()), number))
    score, raw, is_positive, called = (np.concatenate(a) for a in (scores, before, truths, calls))
    after, raw = (np.stack([1 - each, each], axis=1) for each in (score, raw))
    inside = np.isin(np.concatenate(slide_of), [k for k, t in enumerate(truths) if t.any()])
    return {
        "tiles": float(len(score)),
        "patch_auc": instance_auc(score, is_positive),
        "patch_auc_in_positive": instance_auc(score[inside], is_positive[inside]),
        "patch_ap_in_positive": instance_ap(score[inside], is_positive[inside]),
        "dice": dice(called.astype(float), is_positive, 0.5),
        **_calibration("patch", after, raw, is_positive.astype(int)),
    }
