"""Writing down what a learner says: a row in predictions.csv and a scores file for each slide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tiling import fingerprint, stored_fingerprint

from .bags import Bags, LoadedBag
from .classes import SEPARATOR, Classes
from .learner import NO_TISSUE, Learner, Prediction
from .recipe import Recipe
from .run_folder import Run
from .scores import Scores, save_scores


@dataclass(frozen=True)
class Fitted:
    """A fitted learner with its recipe, and the fold it comes from ("" for the final model)."""

    learner: Learner
    recipe: Recipe
    fold: str = ""

    def predict(self, loaded: LoadedBag) -> Prediction:
        """Return the prediction of one bag."""
        return self.learner.predict(loaded.bag)


def prediction_row(loaded: LoadedBag, prediction: Prediction, fitted: Fitted) -> dict[str, Any]:
    """Return one row of predictions.csv, of a slide or of a patient.

    p(<class>) is written with 9 digits, so float32 comes back equal.
    """
    names, thresholds = fitted.learner.classes.names, fitted.recipe.slide_thresholds
    of_patient = {"patient_id": loaded.bag.id, "n_slides": str(len(loaded.slides))}
    return {
        **(of_patient if fitted.recipe.bag == "patient" else {"slide_id": loaded.bag.id}),
        "label": loaded.label,
        **{f"p({n})": f"{p:.9g}" for n, p in zip(names, prediction.probability, strict=True)},
        "prediction": called(prediction, fitted.learner.classes, thresholds),
        "threshold": SEPARATOR.join(f"{t:.9g}" for t in thresholds),
        "tile_threshold": f"{fitted.recipe.tile_threshold:.9g}",
        "fold": fitted.fold,
        "flags": " ".join(f.replace(" ", "_") for f in prediction.flags),
    }


def called(prediction: Prediction, classes: Classes, thresholds: Sequence[float]) -> str:
    """Return the class, or with one threshold a positive class the classes, that a bag is called of."""
    names, likeliest = classes.names, classes.names[int(prediction.probability.argmax())]
    if NO_TISSUE in prediction.flags and classes.has_negative:
        return names[0]
    if not thresholds:
        return likeliest
    positive = zip(names[-len(thresholds) :], prediction.probability[-len(thresholds) :], strict=True)
    found = [name for (name, p), t in zip(positive, thresholds, strict=True) if p >= t]
    return SEPARATOR.join(found) or (names[0] if classes.has_negative else likeliest)


def write_scores(run: Run, source: Bags, loaded: LoadedBag, prediction: Prediction, fitted: Fitted) -> bool:
    """Write the scores of a bag's slides unless the same ones are there; return whether any were written."""
    expected = fingerprint(loaded.fingerprint, fitted.recipe.fingerprint)
    learner = fitted.learner
    is_new = False
    for slide_id, probability, prototype in loaded.spread(prediction):
        path = run.scores_path(slide_id)
        if stored_fingerprint(path) != expected:
            scores = Scores(
                slide_id, learner.classes.tile_names, probability, prototype, learner.name, expected
            )
            save_scores(scores, source.grid(slide_id), path, model_fingerprint=fitted.recipe.fingerprint)
            is_new = True
    return is_new


def write_predictions(run: Run, rows: list[dict[str, Any]]) -> None:
    """Write predictions.csv."""
    run.write_table("predictions.csv", pd.DataFrame(rows))


def rows_by_slide(run: Run) -> dict[str, dict[str, str]]:
    """Return the row of predictions.csv that holds for each predicted slide: its own, or its patient's.

    Raises:
        FormatError: the run has no predictions.
    """
    rows = run.read_table("predictions.csv", hint="train or predict first").to_dict("records")
    if not rows or "slide_id" in rows[0]:
        return {row["slide_id"]: row for row in rows}
    of_patient = {row["patient_id"]: row for row in rows}
    slides = run.cohort("extracted", NO_TISSUE).slides
    return {s.slide_id: of_patient[s.patient_id] for s in slides if s.patient_id in of_patient}
