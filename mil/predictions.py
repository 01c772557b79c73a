"""Writing down what a model says: a row in predictions.csv and a scores file for each slide."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from tiling import fingerprint, stored_fingerprint

from .bags import Bags, LoadedBag
from .batch import WITHOUT_TILES
from .calibration import Calibration
from .learner import NO_TISSUE, Learner, Prediction, load_learner
from .novelty import UNLIKE, Novelty
from .recipe import Recipe
from .run_folder import Run
from .scores import Scores, save_scores

SET_MARK = "|"  # between the classes of a set


@dataclass(frozen=True)
class ModelPrediction(Prediction):
    """A prediction on the model's calibrated scale.

    `uncalibrated` (C,) is what the learner itself said of the slide; `class_set` the classes that the
    slide may have at the model's level. `novelty` and `tile_novelty` (N,) are above 1 where slide and
    tiles are unlike the training.
    """

    uncalibrated: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    class_set: tuple[int, ...] = ()
    novelty: float = float("nan")
    tile_novelty: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True)
class Fitted:
    """A fitted learner, recipe and calibration, and the fold they come from ("" for the final model)."""

    learner: Learner
    recipe: Recipe
    calibration: Calibration
    novelty: Novelty
    fold: str = ""

    @classmethod
    def load(cls, folder: Path, fold: str = "") -> Self:
        """Return the model in `folder`.

        Raises:
            FormatError: there is no whole model.
        """
        recipe, calibration = Recipe.load(folder), Calibration.load(folder)
        return cls(load_learner(folder), recipe, calibration, Novelty.load(folder), fold)

    def save(self, folder: Path) -> None:
        """Write the model's files into `folder`, the recipe last."""
        self.learner.save(folder)
        self.calibration.save(folder)
        self.novelty.save(folder)
        self.recipe.save(folder)

    def predict(self, loaded: LoadedBag) -> ModelPrediction:
        """Return the calibrated prediction of one bag; one without tiles stays as the learner has it."""
        told = self.learner.predict(loaded.bag)
        if NO_TISSUE in told.flags:
            everything = tuple(range(len(told.probability)))
            told = replace(told, flags=loaded.flags or told.flags)  # the bag knows why it is empty
            return ModelPrediction(**vars(told), uncalibrated=told.probability, class_set=everything)
        tile_novelty, novelty = self.novelty(loaded.bag.features)
        calibrated = replace(
            told,
            flags=(*told.flags, UNLIKE) if novelty > 1 else told.flags,
            probability=self.calibration.slide(told.probability[None])[0],
            tile_probability=self.calibration.tile(told.tile_probability),
        )
        return ModelPrediction(
            **vars(calibrated),
            uncalibrated=told.probability,
            class_set=self.calibration.sets.of_slide(told.probability),
            novelty=novelty,
            tile_novelty=tile_novelty,
        )


def prediction_row(slide_id: str, label: str, prediction: ModelPrediction, fitted: Fitted) -> dict[str, Any]:
    """Return one row of predictions.csv; p(<class>) is written with 9 digits, so float32 comes back equal."""
    names = fitted.learner.classes.names
    threshold = fitted.recipe.slide_threshold
    if threshold is None:
        called = names[int(prediction.probability.argmax())]
    else:
        called = names[int(prediction.probability[1] >= threshold)]
    if set(WITHOUT_TILES) & set(prediction.flags) and fitted.learner.classes.has_negative:
        called = names[0]
    return {
        "slide_id": slide_id,
        "label": label,
        **{f"p({n})": f"{p:.9g}" for n, p in zip(names, prediction.probability, strict=True)},
        **{f"uncalibrated({n})": f"{p:.9g}" for n, p in zip(names, prediction.uncalibrated, strict=True)},
        "is_calibrated": str(fitted.calibration.slides is not None).lower(),
        "prediction": called,
        "set": SET_MARK.join(names[c] for c in prediction.class_set),
        "set_level": f"{fitted.calibration.sets.level:g}",
        "threshold": "" if threshold is None else f"{threshold:.9g}",
        "tile_threshold": f"{fitted.recipe.tile_threshold:.9g}",
        "novelty": "" if np.isnan(prediction.novelty) else f"{prediction.novelty:.6g}",
        "fold": fitted.fold,
        "flags": " ".join(f.replace(" ", "_") for f in prediction.flags),
    }


def write_scores(
    run: Run, source: Bags, loaded: LoadedBag, prediction: ModelPrediction, fitted: Fitted
) -> bool:
    """Write a slide's scores unless the same ones are there; return whether anything was written."""
    slide_id = loaded.bag.id
    path = run.scores_path(slide_id)
    expected = fingerprint(loaded.fingerprint, fitted.recipe.fingerprint)
    if stored_fingerprint(path) == expected:
        return False
    probability, prototype = loaded.spread(prediction)
    novelty = np.full(len(prototype), np.nan, np.float32)
    novelty[loaded.readable] = prediction.tile_novelty
    learner = fitted.learner
    scores = Scores(
        slide_id, learner.classes.tile_names, probability, prototype, learner.name, expected,
        calibration=fitted.calibration.tiles, novelty=novelty,
    )  # fmt: skip
    save_scores(scores, source.grid(slide_id), path, model_fingerprint=fitted.recipe.fingerprint)
    return True


def write_predictions(run: Run, rows: list[dict[str, Any]]) -> None:
    """Write predictions.csv."""
    run.write_table("predictions.csv", pd.DataFrame(rows))
