"""The models of a training: one a fold and one of all bags, each fitted, calibrated and saved, or kept."""

import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import pandas as pd

from mil.bag import Bag
from mil.bags import LoadedBag
from mil.calibration import HeldOut, calibrate, slide_figures
from mil.classes import Classes
from mil.cohort import Fold
from mil.learner import Learner
from mil.model import Centres, Novelty, Recipe, profile, stored_recipe_fingerprint
from mil.model_files import MODEL_FORMAT_VERSION, withdraw
from mil.predictions import Fitted
from mil.prepare import Preparation
from mil.threads import one_thread
from tiling import FormatError, SlidebagError, fingerprint, replacing

from .config import FitConfig, TrainConfig, new_learner
from .event_files import add_held_out, write_events
from .fit_progress import fit_progress
from .side_by_side import side_by_side


@dataclass(frozen=True)
class FoldModels:
    """Fits the models of labelled `bags` into `base`, where those that are there and still right are kept.

    `swept` are settings that a sweep found, beside `settings`, by the fold's name; "" is the final model's.
    """

    base: Path
    config: TrainConfig
    settings: dict[str, str]
    preparation: Preparation
    classes: Classes
    bags: Sequence[LoadedBag]
    folds: Sequence[Fold]
    how: FitConfig = field(default_factory=FitConfig)
    swept: Mapping[str, dict[str, str]] = field(default_factory=dict)

    def folder(self, fold: Fold | None) -> Path:
        """Return where a model lies: the final one (None), or of a given split, in `base`, others below."""
        return self.base if fold is None or fold.name == "given" else self.base / "folds" / fold.name

    def fingerprint(self, fold: Fold | None) -> str:
        """Return what changes with all that a model depends on: options, features, labels, who is where."""
        parts = [fold] if fold else self.folds
        learners = [self._new(each) for each in ([fold] if fold else [None, *self.folds])]
        return fingerprint(
            MODEL_FORMAT_VERSION,  # what an earlier slidebag fitted is fitted anew
            self.config,
            [asdict(learner.config) for learner in learners],
            asdict(self.classes),
            [identity(bag) for bag in self.bags],
            [asdict(each) for each in parts],
        )

    def is_there(self, fold: Fold | None) -> bool:
        """Whether the model is there, whole, and was fitted in this very way."""
        return self._kept(fold) is not None

    def _kept(self, fold: Fold | None) -> Fitted | None:
        """The model that is there; a damaged one is not, so that to train again makes it anew."""
        folder = self.folder(fold)
        if stored_recipe_fingerprint(folder) != self.fingerprint(fold):
            return None
        try:
            return Fitted.load(folder, fold.name if fold else "")
        except FormatError:
            return None

    def are_there(self) -> bool:
        """Whether all models are."""
        return all(map(self.is_there, self.folds)) and (self._is_split or self.is_there(None))

    def fitted(self) -> tuple[list[Fitted], Fitted]:
        """Return the models of the folds, and the one for new slides; of a given split both are the same.

        What is not there is fitted, some folds at a time.
        """
        missing = [fold for fold in self.folds if not self.is_there(fold)]
        side_by_side(self._fit_fold, missing, self.how.jobs)
        of_folds = [self.of_fold(fold) for fold in self.folds]
        self._remove_others()
        return of_folds, of_folds[0] if self._is_split else self.final()

    def of_fold(self, fold: Fold) -> Fitted:
        """Return the model that has not seen the test part of a fold, fitted if need be."""
        kept = self._kept(fold)
        if kept is None:
            side_by_side(self._fit_fold, [fold], 1)
        return kept or Fitted.load(self.folder(fold), fold.name)

    def final(self) -> Fitted:
        """Return the model for new slides, of all labelled bags; calibrated on what each fold held out."""
        kept = self._kept(None)
        if kept is None:
            with one_thread(), named("final model"):
                self._silence(self.base)
                held_out = self._held_out_of_all()
                everyone = range(len(self.bags))
                learner = self._new(None, held_out.n_epochs)
                save = partial(self._save, learner, held_out, everyone, None)
                self._fit(learner, everyone, self.base, "final model", keep=save)
        return kept or Fitted.load(self.base)

    def _held_out_of_all(self) -> HeldOut:
        """What all folds held out; of epochs, the median of those that chose them with the final options."""
        parts = {fold.name: HeldOut.load(self.folder(fold)) for fold in self.folds}
        own = self.swept.get("", {})
        alike = [part for name, part in parts.items() if self.swept.get(name, {}) == own]
        return replace(HeldOut.pooled([*parts.values()]), n_epochs=HeldOut.pooled(alike).n_epochs)

    def _remove_others(self) -> None:
        """Remove what an earlier training of other folds left, or it would pass for this one's."""
        wanted = {self.folder(fold) for fold in self.folds}
        for folder in (self.base / "folds").glob("*"):
            if folder not in wanted:
                shutil.rmtree(folder)

    @property
    def _is_split(self) -> bool:
        return self.folds[0].name == "given"

    def _fit_fold(self, fold: Fold) -> None:
        folder, title = self.folder(fold), f"fold {fold.name}"
        with named(title):
            self._silence(folder)
            first = self._new(fold)
            if fold.name == "given":
                keep = partial(self._ask_and_save, first, fold)
                self._fit(first, fold.train, folder, title, fold.validation, keep=keep)
                return
            is_half_done = HeldOut.is_there(folder, self.fingerprint(fold))  # the first of two fits is
            if not is_half_done:
                ask = partial(self._held_out, first, fold)
                self._fit(first, fold.train, folder / "validation", title, fold.validation, keep=ask)
            held_out = HeldOut.load(folder)
            # what was chosen on these bags is frozen now: they may be learned from
            seen = sorted(fold.train + fold.validation)
            learner = self._new(fold, held_out.n_epochs)
            save = partial(self._save, learner, held_out, seen, fold)
            self._fit(learner, seen, folder, f"{title}, all but test", keep=save)

    def _silence(self, folder: Path) -> None:
        """Remove the recipe, or it would speak for weights that are not its own."""
        withdraw(folder / "recipe.json")

    def _new(self, fold: Fold | None, n_epochs: int = 0) -> Learner:
        """Return an unfitted learner; `n_epochs` are those that validation chose, 0 if it had no say."""
        swept = self.swept.get(fold.name if fold else "", {})
        found = {"epochs": str(n_epochs), "patience": "0"} if n_epochs else {}
        return new_learner(self.config.learner, self.settings | swept | found)

    def _fit(
        self,
        learner: Learner,
        chosen: Sequence[int],
        folder: Path,
        title: str,
        validation: Sequence[int] = (),
        *,
        keep: Callable[[], object],
    ) -> None:
        """Fit on the bags `chosen`; those of `validation` may end it. Then `keep` writes what is to stay."""
        started = time.monotonic()

        def done() -> None:
            self._log(learner, len(chosen), folder, title, time.monotonic() - started)
            keep()

        # bars of several processes would overwrite each other
        with fit_progress(title) if parent_process() is None else nullcontext() as report:
            learner.fit(
                self.bags_of(chosen),
                self.labels(chosen),
                self.classes,
                seed=self.config.seed,
                report=report,
                checkpoint=folder / "checkpoint.safetensors",
                validation=(self.bags_of(validation), self.labels(validation)) if validation else None,
                keep=done,
            )

    def _log(self, learner: Learner, n: int, folder: Path, title: str, seconds: float) -> None:
        """Write what a fit on `n` bags reported."""
        print(f"train: {title}, {n} {self.config.bag}s, {seconds:.1f} s", file=sys.stderr)
        with replacing(folder / "metrics.csv") as temporary:
            pd.DataFrame(learner.history).to_csv(temporary, index=False)
        if self.how.tensorboard:
            write_events(self._events(title), learner.history)

    def _events(self, title: str) -> Path:
        """Where the events of a fit go: all in one folder, for TensorBoard to lay side by side."""
        return self.base / "tensorboard" / title.replace(",", "").replace(" ", "-")

    def bags_of(self, chosen: Sequence[int]) -> list[Bag]:
        """Return some bags as a learner takes them."""
        return [self.bags[i].bag for i in chosen]

    def labels(self, chosen: Sequence[int]) -> np.ndarray:
        """Return the labels of some bags, as `Learner.fit` takes them."""
        return self.classes.labels_of([self.bags[i].label for i in chosen])

    def _held_out(self, learner: Learner, fold: Fold) -> HeldOut:
        """Ask for the validation bags, whose labels alone are looked at."""
        bags = self.bags_of(fold.validation)
        centres = self._centres(fold.train)
        profiles = np.stack([profile(centres.log_distance(bag.features)) for bag in bags])
        predictions = [learner.predict(bag) for bag in bags]
        labels = self.labels(fold.validation)
        held_out = HeldOut.of(predictions, labels, profiles, learner.n_epochs, learner.warnings)
        held_out.save(self.folder(fold), self.fingerprint(fold))
        if self.how.tensorboard:
            figures = slide_figures(held_out.margins, held_out.labels, self.classes)
            add_held_out(self._events(f"fold {fold.name}"), figures)
        return held_out

    def _ask_and_save(self, learner: Learner, fold: Fold) -> None:
        self._save(learner, self._held_out(learner, fold), fold.train, fold)

    def _centres(self, seen: Sequence[int]) -> Centres:
        return Centres.of([bag for bag in self.bags_of(seen) if len(bag)], self.config.seed)

    def _save(self, learner: Learner, held_out: HeldOut, seen: Sequence[int], fold: Fold | None) -> None:
        """Freeze by what was held out, and write the model that was fitted on the bags `seen`."""
        learner.warnings += [warning for warning in held_out.warnings if warning not in learner.warnings]
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
        Fitted(learner, recipe, frozen.calibration, novelty).save(self.folder(fold))


def identity(bag: LoadedBag) -> tuple[str, ...]:
    """Return what changes with all that can be learned from a bag: files, id, patient, label, annotations.

    Models of slidebags that did not learn from views are not those of bags with views.
    """
    told = bag.bag.candidates
    return (
        *(() if bag.bag.views is None else ("views",)),
        bag.fingerprint,
        bag.bag.id,
        bag.bag.patient or "",
        bag.label,
        "" if told is None else hashlib.sha256(told.tobytes()).hexdigest(),
    )


@contextmanager
def named(title: str) -> Iterator[None]:
    """Let an error name the fit that it ended."""
    try:
        yield
    except SlidebagError as error:
        raise type(error)(f"{title}: {error.message}", hint=error.hint) from error
    except Exception as error:
        error.add_note(f"in {title}")
        raise
