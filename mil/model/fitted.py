"""A model as a whole: what is learned, how slides are made ready for it, and on which scale it speaks."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from mil.bags import LoadedBag
from mil.calibration import Calibration
from mil.learner import Learner, Prediction, load_learner

from .novelty import UNLIKE, Novelty, max_logit
from .recipe import Recipe


@dataclass(frozen=True)
class ModelPrediction(Prediction):
    """A prediction on the model's calibrated scale.

    `uncalibrated` (C,) is what the learner itself said of the bag; `class_set` the classes that it may
    have at the model's level. `novelty` and `tile_novelty` (N,) are above 1 where slide and
    tiles are unlike the training; `max_logit` (N,) is the learner's own of tiles.
    """

    uncalibrated: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    class_set: tuple[int, ...] = ()
    novelty: float = float("nan")
    tile_novelty: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    max_logit: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


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
        if not len(loaded.bag):
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
            max_logit=max_logit(told.tile_probability),
        )
