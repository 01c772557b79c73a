"""The models of a training: one a fold and one of all bags, each fitted, calibrated and saved, or kept."""

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tiling import fingerprint, replacing

from .bags import LoadedBag
from .calibration import HeldOut, calibrate
from .classes import Classes
from .cohort import Fold
from .fit_progress import fit_progress
from .learner import Bag, Learner
from .novelty import Centres, Novelty, profile
from .predictions import Fitted
from .prepare import Preparation
from .recipe import Recipe, stored_recipe_fingerprint
from .train_config import TrainConfig, new_learner


@dataclass(frozen=True)
class FoldModels:
    """Fits the models of labelled `bags` into `base`, where those that are there and still right are kept."""

    base: Path
    config: TrainConfig
    settings: dict[str, str]
    preparation: Preparation
    classes: Classes
    bags: Sequence[LoadedBag]
    folds: Sequence[Fold]

    def folder(self, fold: Fold | None) -> Path:
        """Return where a model lies: the final one (None), or of a given split, in `base`, others below."""
        return self.base if fold is None or fold.name == "given" else self.base / "folds" / fold.name

    def fingerprint(self, fold: Fold | None) -> str:
        """Return what changes with all that a model depends on: options, features, labels, who is where."""
        told = [(b.fingerprint, b.bag.id, b.label, _digest(b.bag.candidates)) for b in self.bags]
        parts = [asdict(each) for each in ([fold] if fold else self.folds)]
        learner = new_learner(self.config.learner, self.settings)
        return fingerprint(self.config, learner.config, asdict(self.classes), told, parts)

    def is_there(self, fold: Fold | None) -> bool:
        """Whether the model is there and was fitted in this very way."""
        return stored_recipe_fingerprint(self.folder(fold)) == self.fingerprint(fold)

    def of_fold(self, fold: Fold) -> Fitted:
        """Return the model that has not seen the test part of a fold, fitted if need be."""
        folder = self.folder(fold)
        if self.is_there(fold):
            return Fitted.load(folder, fold.name)
        self._silence(folder)
        title = f"fold {fold.name}"
        if fold.name == "given":
            learner = self._fit(fold.train, folder, title, validation=fold.validation)
            return self._save(learner, self._held_out(learner, fold), fold.train, fold)
        warnings: list[str] = []
        if HeldOut.is_there(folder, self.fingerprint(fold)):  # stopped after the first of two fits
            held_out = HeldOut.load(folder)
        else:
            first = self._fit(fold.train, folder / "validation", title, validation=fold.validation)
            held_out, warnings = self._held_out(first, fold), first.warnings
        # nothing but calibration, thresholds and epochs was chosen on these bags: they may be learned from
        seen = sorted(fold.train + fold.validation)
        learner = self._fit(seen, folder, f"{title}, all but test", n_epochs=held_out.n_epochs)
        learner.warnings += [warning for warning in warnings if warning not in learner.warnings]
        return self._save(learner, held_out, seen, fold)

    def final(self) -> Fitted:
        """Return the model for new slides, of all labelled bags; calibrated on what each fold held out."""
        if self.is_there(None):
            return Fitted.load(self.base)
        self._silence(self.base)
        held_out = HeldOut.pooled([HeldOut.load(self.folder(fold)) for fold in self.folds])
        everyone = range(len(self.bags))
        learner = self._fit(everyone, self.base, "final model", n_epochs=held_out.n_epochs)
        return self._save(learner, held_out, everyone, None)

    def _silence(self, folder: Path) -> None:
        """Remove the recipe, or it would speak for weights that are not its own."""
        (folder / "recipe.json").unlink(missing_ok=True)

    def _fit(
        self,
        chosen: Sequence[int],
        folder: Path,
        title: str,
        *,
        validation: Sequence[int] = (),
        n_epochs: int = 0,
    ) -> Learner:
        """Fit on the bags `chosen`; those of `validation` may end it, or they chose `n_epochs` before."""
        found = {"epochs": str(n_epochs), "patience": "0"} if n_epochs else {}
        learner = new_learner(self.config.learner, self.settings | found)
        started = time.monotonic()
        with fit_progress(title) as report:
            learner.fit(
                self._bags(chosen),
                self._labels(chosen),
                self.classes,
                seed=self.config.seed,
                report=report,
                checkpoint=folder / "checkpoint.safetensors",
                validation=(self._bags(validation), self._labels(validation)) if validation else None,
            )
        seconds = time.monotonic() - started
        print(f"train: {title}, {len(chosen)} {self.config.bag}s, {seconds:.1f} s", file=sys.stderr)
        with replacing(folder / "metrics.csv") as temporary:
            pd.DataFrame(learner.history).to_csv(temporary, index=False)
        return learner

    def _bags(self, chosen: Sequence[int]) -> list[Bag]:
        return [self.bags[i].bag for i in chosen]

    def _labels(self, chosen: Sequence[int]) -> np.ndarray:
        return self.classes.labels_of([self.bags[i].label for i in chosen])

    def _held_out(self, learner: Learner, fold: Fold) -> HeldOut:
        """Ask for the validation bags, whose labels alone are looked at."""
        bags = self._bags(fold.validation)
        centres = self._centres(fold.train)
        profiles = np.stack([profile(centres.log_distance(bag.features)) for bag in bags])
        predictions = [learner.predict(bag) for bag in bags]
        held_out = HeldOut.of(predictions, self._labels(fold.validation), profiles, learner.n_epochs)
        held_out.save(self.folder(fold), self.fingerprint(fold))
        return held_out

    def _centres(self, seen: Sequence[int]) -> Centres:
        return Centres.of([bag for bag in self._bags(seen) if len(bag)], self.config.seed)

    def _save(self, learner: Learner, held_out: HeldOut, seen: Sequence[int], fold: Fold | None) -> Fitted:
        """Freeze by what was held out, and write the model that was fitted on the bags `seen`."""
        frozen = calibrate(held_out, self.classes, self.config.level)
        novelty = Novelty.of(self._centres(seen), held_out.profiles)
        recipe = Recipe(
            self.preparation,
            self.bags[0].encoder_fingerprint,
            frozen.slide_thresholds,
            frozen.tile_threshold,
            self.config.bag,
            self.fingerprint(fold),
        )
        fitted = Fitted(learner, recipe, frozen.calibration, novelty, fold.name if fold else "")
        fitted.save(self.folder(fold))
        return fitted


def _digest(candidates: np.ndarray | None) -> str:
    return "" if candidates is None else hashlib.sha256(candidates.tobytes()).hexdigest()
