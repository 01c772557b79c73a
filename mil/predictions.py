"""Writing down what a model says: a row in predictions.csv and a scores file for each slide."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiling import FormatError, fingerprint, stored_fingerprint

from .bag_files import Bags
from .bags import LoadedBag
from .batch import WITHOUT_TILES
from .classes import SEPARATOR, SET_MARK, Classes, names_in
from .learner import Prediction
from .model import Fitted, ModelPrediction
from .model_files import withdraw
from .run_folder import Run
from .scores import Scores, save_scores
from .slide_table import few

_CLASS = "<class>"  # stands for each class in the name of a column
_AS_WRITTEN = "if it was edited, save it with commas and all its columns; else train or predict again"
_OF_NO_SLIDE = ["slide_id", "label", "prediction", "set", "threshold", "tile_threshold", "fold", "flags"]


def prediction_row(loaded: LoadedBag, prediction: ModelPrediction, fitted: Fitted) -> dict[str, Any]:
    """Return one row of predictions.csv, of a slide or of a patient.

    p(<class>) is written with 9 digits, so float32 comes back equal.
    """
    names, thresholds = fitted.learner.classes.names, fitted.recipe.slide_thresholds
    slides = [slide.slide_id for slide in loaded.slides]
    of_patient = {
        "patient_id": loaded.bag.id,
        "n_slides": str(len(slides)),
        "slide_ids": SET_MARK.join(slides),
    }
    return {
        **(of_patient if fitted.recipe.bag == "patient" else {"slide_id": loaded.bag.id}),
        "label": loaded.label,
        **{f"p({n})": f"{p:.9g}" for n, p in zip(names, prediction.probability, strict=True)},
        **{f"uncalibrated({n})": f"{p:.9g}" for n, p in zip(names, prediction.uncalibrated, strict=True)},
        "is_calibrated": str(fitted.calibration.slides is not None).lower(),
        "prediction": called(prediction, fitted.learner.classes, thresholds),
        "set": SET_MARK.join(names[c] for c in prediction.class_set),
        "set_level": f"{fitted.calibration.sets.level:g}",
        "threshold": SEPARATOR.join(f"{t:.9g}" for t in thresholds),
        "tile_threshold": f"{fitted.recipe.tile_threshold:.9g}",
        "novelty": "" if np.isnan(prediction.novelty) else f"{prediction.novelty:.6g}",
        "max_logit": _mean(prediction.max_logit),
        "prototype_distance": _mean(prediction.prototype_distance),
        "fold": fitted.fold,
        "flags": " ".join(f.replace(" ", "_") for f in prediction.flags),
    }


def _mean(of_tiles: np.ndarray | None) -> str:
    return "" if of_tiles is None or not len(of_tiles) else f"{of_tiles.mean():.6g}"


def called(prediction: Prediction, classes: Classes, thresholds: Sequence[float]) -> str:
    """Return the class, or with one threshold a positive class the classes, that a bag is called of."""
    names, likeliest = classes.names, classes.names[int(prediction.probability.argmax())]
    if set(WITHOUT_TILES) & set(prediction.flags) and classes.has_negative:
        return names[0]
    if not thresholds:
        return likeliest
    positive = zip(names[-len(thresholds) :], prediction.probability[-len(thresholds) :], strict=True)
    found = [name for (name, p), t in zip(positive, thresholds, strict=True) if p >= t]
    return SEPARATOR.join(found) or (names[0] if classes.has_negative else likeliest)


def write_scores(
    run: Run, source: Bags, loaded: LoadedBag, prediction: ModelPrediction, fitted: Fitted
) -> bool:
    """Write the scores of a bag's slides unless the same ones are there; return whether any were written.

    A predictions.csv of other scores is gone before; the new one comes when all scores are there.
    """
    expected = fingerprint(loaded.fingerprint, fitted.recipe.fingerprint)
    learner = fitted.learner
    is_new = False
    for slide, own in loaded.by_slide():
        path = run.scores_path(slide.slide_id)
        if stored_fingerprint(path) == expected:
            continue
        if not is_new:  # or a stop from here on would leave scores of two models under one table
            withdraw_report(run)
            withdraw(run.root / "predictions.csv")
            is_new = True
        distance = prediction.prototype_distance
        scores = Scores(
            slide.slide_id,
            learner.classes.tile_names,
            slide.spread(prediction.tile_probability[own], np.nan),
            slide.spread(prediction.prototype[own], -1),
            learner.name,
            expected,
            calibration=fitted.calibration.tiles,
            novelty=slide.spread(prediction.tile_novelty[own], np.nan),
            max_logit=slide.spread(prediction.max_logit[own], np.nan),
            prototype_distance=None if distance is None else slide.spread(distance[own], np.nan),
        )
        grid = source.grid(slide.slide_id)
        save_scores(scores, grid, path, model_fingerprint=fitted.recipe.fingerprint)
    return is_new


def write_predictions(run: Run, rows: list[dict[str, Any]]) -> None:
    """Write predictions.csv; a report of the earlier ones is gone before."""
    withdraw_report(run)
    run.write_table("predictions.csv", pd.DataFrame(rows) if rows else pd.DataFrame(columns=_OF_NO_SLIDE))


def withdraw_report(run: Run) -> None:
    """Remove what was reported of predictions that are no more."""
    for name in ("index.html", "report.json"):
        withdraw(run.root / "report" / name)


def load_predictions(run: Run, *columns: str) -> pd.DataFrame:
    """Return predictions.csv, every column as text, with the slides of each row and all of `columns`.

    "<class>" in the name of a column stands for each class, unless nothing was predicted.

    Raises:
        FormatError: the run has no predictions, columns are missing, or hold no numbers where they should.
    """
    rows = run.read_table("predictions.csv", hint="train or predict first")
    of_class = [c for c in columns if _CLASS in c] if len(rows) else []
    wanted = [c for c in columns if _CLASS not in c]
    wanted += [c.replace(_CLASS, name) for c in of_class for name in class_names(rows) or (_CLASS,)]
    own = "slide_ids" if "patient_id" in rows.columns and "slide_id" not in rows.columns else "slide_id"
    missing = [name for name in (own, *wanted) if name not in rows.columns]
    if missing:
        why = ", which says which slides a patient's row is of" if "slide_ids" in missing else ""
        raise FormatError(
            f"{run.root}: predictions.csv has no column {', '.join(missing)}{why}; "
            f"its columns are {', '.join(rows.columns)}",
            hint=_AS_WRITTEN,
        )
    for name in wanted:
        if name == "tile_threshold" or name.endswith(")"):
            _check_numbers(run, rows, name)
    return rows


def _check_numbers(run: Run, rows: pd.DataFrame, name: str) -> None:
    numbers = pd.Series(pd.to_numeric(rows[name], errors="coerce"))
    wrong = rows.loc[numbers.isna(), name].tolist()
    if wrong:
        raise FormatError(
            f"{run.root}: predictions.csv has {wrong[0]!r} in the column {name}, wanted a number",
            hint=_AS_WRITTEN,
        )


def class_names(columns: Iterable[Any]) -> tuple[str, ...]:
    """Return the classes that predictions.csv, or a row of it, has probabilities of."""
    return tuple(c[2:-1] for c in map(str, columns) if c.startswith("p(") and c.endswith(")"))


def check_called(called: str, names: Sequence[str], told: str) -> None:
    """Raise FormatError, beginning with `told`, where `called` is of no class, as an edit may leave it."""
    found = names_in(called)
    if not found or not set(found) <= set(names):
        raise FormatError(
            f"{told} {called!r}, wanted of {', '.join(names)}",
            hint="if it was edited, write the class as the columns do; else train or predict again",
        )


def unknown_labels(labels: Iterable[str], names: Sequence[str], one: str = "slide") -> tuple[str, str]:
    """Return how many of `labels` a model of the classes `names` does not know, and which, in words.

    The first is "" if there are none; `one` is what each is the label of.
    """
    strange = [label for label in labels if not set(names_in(label)) <= set(names)]
    unknown = [name for name in names_in(SEPARATOR.join(strange)) if name not in names]
    who = f"1 {one} has a label" if len(strange) == 1 else f"{len(strange)} {one}s have labels"
    return who if strange else "", f"({few(unknown)}; it knows {', '.join(names)})"


def slides_of(row: Mapping[str, str]) -> list[str]:
    """Return the slides that a row of predictions.csv is of."""
    return [row["slide_id"]] if "slide_id" in row else row["slide_ids"].split(SET_MARK)


def rows_by_slide(run: Run, *columns: str) -> dict[str, dict[str, str]]:
    """Return the row of predictions.csv that holds for each predicted slide: its own, or its patient's.

    Raises:
        FormatError: where `load_predictions` does.
    """
    rows = [{str(k): v for k, v in row.items()} for row in load_predictions(run, *columns).to_dict("records")]
    return {slide_id: row for row in rows for slide_id in slides_of(row)}
