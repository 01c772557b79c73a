"""The verb `train`: folds by patient, thresholds frozen on validation, every test slide seen once."""

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiling import ConfigError, fingerprint, replacing

from .annotations import load_annotations
from .bags import Bags, LoadedBag, SlideGroup, find_bags, group_slides, load_bags
from .batch import NO_TISSUE
from .classes import Classes, multi_hot
from .cohort import Cohort, Fold
from .learner import LEARNERS, Learner, load_learner
from .metrics import choose_threshold, choose_tile_threshold
from .predictions import Fitted, prediction_row, write_predictions, write_scores
from .prepare import Preparation
from .recipe import Recipe, stored_recipe_fingerprint
from .run_folder import Run

BAGS = ("slide", "patient")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is fitted, and how the cohort is divided."""

    learner: str = field(default="slidebag", metadata={"help": "which learner; see docs/learners.md"})
    folds: int = field(default=5, metadata={"help": "folds by patient, unless the table gives a split"})
    seed: int = field(default=0, metadata={"help": "seed of the folds and of the fitting"})
    negative: str = field(
        default="", metadata={"help": "the negative label; 'none' if all labels are positive (subtypes)"}
    )
    bag: str = field(
        default="slide", metadata={"help": "what one bag and one prediction is of: slide or patient"}
    )

    def __post_init__(self) -> None:
        if self.bag not in BAGS:
            raise ConfigError(f"bag is {self.bag!r}", hint=f"choose {' or '.join(BAGS)}")


@dataclass(frozen=True)
class Training:
    """What a training left: the final model's folder, and whether it had to be computed."""

    folder: Path
    is_kept: bool
    seconds: float
    warnings: tuple[str, ...]


def new_learner(name: str, settings: dict[str, str]) -> Learner:
    """Return an unfitted learner; `settings` are its options as text, by name.

    Raises:
        ConfigError: no such learner or option, or a value that does not fit.
    """
    learner = LEARNERS[name]
    known = {f.name: type(f.default) for f in fields(learner.config_class)}
    parsed: dict[str, Any] = {}
    for key, text in settings.items():
        if key not in known:
            raise ConfigError(
                f"learner {name!r} has no option {key!r}", hint=f"choose from {', '.join(known)}"
            )
        try:
            parsed[key] = text.lower() in ("true", "1", "yes") if known[key] is bool else known[key](text)
        except ValueError as error:
            raise ConfigError(f"option {key} is {text!r}", hint=f"give a {known[key].__name__}") from error
    return learner(learner.config_class(**parsed))


def train(
    run: Run,
    encoder: str,
    config: TrainConfig,
    settings: dict[str, str] | None = None,
    *,
    store: Path | str | None = None,
    annotations: Path | None = None,
) -> Training:
    """Fit a learner on a run's labelled slides, fold by fold and then on all, and predict each slide.

    Where `config.bag` is "patient", all slides of a patient are one bag of one label, and one prediction.
    A labelled slide's stored prediction comes from the fold model that has not seen it, an unlabelled
    one's from the final model. Folds that are there and were fitted in the same way are kept. `store` is
    a packed store that the features are read from; without it they are the run's own. `annotations` is a
    folder of `<slide_id>.geojson`, whose tiles are learned as of the class drawn around them.

    Raises:
        SlidebagError: labels, patients, split or features are not fit to be learned from.
    """
    started = time.monotonic()
    everyone = run.cohort("extracted", NO_TISSUE)
    labelled = everyone.labelled()
    classes = labelled.classes(config.negative)
    groups = group_slides(everyone.slides, config.bag, classes)
    known = [group for group in groups if group.label]
    folds = [_of_bags(fold, labelled, known) for fold in labelled.folds(config.folds, config.seed)]
    source = find_bags(run, encoder, store)
    drawn = load_annotations(annotations, labelled.slides, source, classes) if annotations else {}
    bags = load_bags(source, known, drawn)
    preparation = preparation_of(run, source)
    job = _Job(run, source, config, preparation, settings or {}, classes, bags)
    folder = run.model_folder(config.learner)
    is_kept = all(stored_recipe_fingerprint(job.folder(fold)) == job.fingerprint(fold) for fold in folds)
    fitted = [job.fit_or_load(fold) for fold in folds]
    if fitted[0].fold != "given":
        is_kept &= stored_recipe_fingerprint(folder) == job.fingerprint(None)
        final = job.finish(folder, fitted)
    else:
        final = fitted[0]
    job.write(folds, fitted, final, load_bags(source, [group for group in groups if not group.label]))
    seconds = time.monotonic() - started
    warnings = tuple(dict.fromkeys(w for f in (*fitted, final) for w in f.learner.warnings))
    run.note("train", {"encoder": encoder, "train": asdict(config), "learner": asdict(final.learner.config),
                       "annotations": annotations, "seconds": round(seconds, 2),
                       "warnings": warnings})  # fmt: skip
    return Training(folder, is_kept, seconds, warnings)


def _digest(candidates: np.ndarray | None) -> str:
    return "" if candidates is None else hashlib.sha256(candidates.tobytes()).hexdigest()


def _of_bags(fold: Fold, slides: Cohort, groups: Sequence[SlideGroup]) -> Fold:
    """A fold of slides as one of bags; as no patient is in two parts, neither is a bag."""
    place = {slide.slide_id: k for k, group in enumerate(groups) for slide in group.slides}
    parts = (fold.train, fold.validation, fold.test)
    return Fold(fold.name, *(tuple(sorted({place[slides.slides[i].slide_id] for i in p})) for p in parts))


@dataclass(frozen=True)
class _Job:
    run: Run
    source: Bags
    config: TrainConfig
    preparation: Preparation
    settings: dict[str, str]
    classes: Classes
    bags: list[LoadedBag]

    def folder(self, fold: Fold) -> Path:
        """The model of a given split is the final one; fold models lie below it."""
        base = self.run.model_folder(self.config.learner)
        return base if fold.name == "given" else base / "folds" / fold.name

    def fingerprint(self, fold: Fold | None) -> str:
        """Changes with all that a model depends on: options, features, labels and who is in which part."""
        told = [(b.fingerprint, b.bag.id, b.label, _digest(b.bag.candidates)) for b in self.bags]
        parts = asdict(fold) if fold else self.config.folds
        learner = new_learner(self.config.learner, self.settings)
        return fingerprint(self.config, learner.config, asdict(self.classes), told, parts)

    def fit_or_load(self, fold: Fold) -> Fitted:
        folder = self.folder(fold)
        if stored_recipe_fingerprint(folder) == self.fingerprint(fold):
            return Fitted(load_learner(folder), Recipe.load(folder), fold.name)
        learner = self._fit(fold.train, folder, f"fold {fold.name}")
        recipe = self._recipe(learner, fold)
        if (
            fold.name != "given"
        ):  # nothing but thresholds was chosen on these slides: they may be learned from
            learner = self._fit(
                sorted(fold.train + fold.validation), folder, f"fold {fold.name}, all but test"
            )
        learner.save(folder)
        recipe.save(folder)
        return Fitted(learner, recipe, fold.name)

    def _fit(self, chosen: Sequence[int], folder: Path, title: str) -> Learner:
        learner = new_learner(self.config.learner, self.settings)
        history: list[dict[str, float]] = []
        started = time.monotonic()
        labels = self.classes.labels_of([self.bags[i].label for i in chosen])
        learner.fit(
            [self.bags[i].bag for i in chosen],
            labels,
            self.classes,
            seed=self.config.seed,
            report=lambda figures: history.append(dict(figures)),
        )
        print(
            f"train: {title}, {len(chosen)} {self.config.bag}s, {time.monotonic() - started:.1f} s",
            file=sys.stderr,
        )
        with replacing(folder / "metrics.csv") as temporary:
            pd.DataFrame(history).to_csv(temporary, index=False)
        return learner

    def _recipe(self, learner: Learner, fold: Fold) -> Recipe:
        """Freeze the thresholds on the validation slides, whose bag labels alone are looked at."""
        labels = self.classes.labels_of([self.bags[i].label for i in fold.validation])
        predictions = [learner.predict(self.bags[i].bag) for i in fold.validation]
        truth = multi_hot(labels, self.classes)
        slide_thresholds = tuple(
            choose_threshold(np.array([p.probability[c] for p in predictions]), truth[:, c])
            for c in self._decided_alone()
        )
        suspicion = [1 - p.tile_probability[:, 0] for p in predictions]
        is_positive = ~truth[:, 0] if self.classes.has_negative else np.ones(len(truth), bool)
        tile_threshold = choose_tile_threshold(suspicion, is_positive)
        return self._new_recipe(slide_thresholds, tile_threshold, self.fingerprint(fold))

    def _decided_alone(self) -> range:
        """The classes that a threshold of their own decides on; without any, the likeliest is called."""
        n_classes, has_negative = len(self.classes.names), self.classes.has_negative
        is_alone = not self.classes.is_exclusive or (has_negative and n_classes == 2)
        return range(int(has_negative), n_classes) if is_alone else range(0)

    def _new_recipe(self, slide: tuple[float, ...], tile: float, told: str) -> Recipe:
        encoder = self.bags[0].encoder_fingerprint
        return Recipe(self.preparation, encoder, slide, tile, self.config.bag, told)

    def finish(self, folder: Path, fitted: list[Fitted]) -> Fitted:
        """Fit the model for new slides on all labelled ones; its thresholds are the folds' means."""
        expected = self.fingerprint(None)
        if stored_recipe_fingerprint(folder) == expected:
            return Fitted(load_learner(folder), Recipe.load(folder))
        learner = self._fit(range(len(self.bags)), folder, "final model")
        recipes = [f.recipe for f in fitted]
        recipe = self._new_recipe(
            tuple(np.mean([r.slide_thresholds for r in recipes], axis=0).tolist()),
            float(np.mean([r.tile_threshold for r in recipes])),
            expected,
        )
        learner.save(folder)
        recipe.save(folder)
        return Fitted(learner, recipe)

    def write(
        self, folds: list[Fold], fitted: list[Fitted], final: Fitted, unlabelled: list[LoadedBag]
    ) -> None:
        """Write splits.csv, predictions.csv and scores, each bag by a model not fitted on it."""
        jobs = [(self.bags[i], f) for fold, f in zip(folds, fitted, strict=True) for i in fold.test]
        jobs += [(bag, final) for bag in unlabelled]
        rows = []
        for bag, model in sorted(jobs, key=lambda job: job[0].bag.id):
            prediction = model.predict(bag)
            rows.append(prediction_row(bag, prediction, model))
            write_scores(self.run, self.source, bag, prediction, model)
        write_predictions(self.run, rows)
        parts = [
            {"slide_id": slide.slide_id, "fold": fold.name, "part": part}
            for fold in folds
            for part in ("train", "validation", "test")
            for i in getattr(fold, part)
            for slide in self.bags[i].slides
        ]
        with replacing(self.run.model_folder(self.config.learner) / "splits.csv") as temporary:
            pd.DataFrame(parts).to_csv(temporary, index=False)


def preparation_of(run: Run, source: Bags) -> Preparation:
    """Return how the bags of a run were made, as its grids and bags tell.

    Raises:
        ConfigError: no slide of the run has features.
    """
    slides = run.cohort("extracted", NO_TISSUE).slides
    if not slides:
        raise ConfigError(
            f"{run.root}: no slide has features", hint=f"run `slidebag extract {run.root}` first"
        )
    grid = source.grid(slides[0].slide_id)
    encoder_config, bag = source.configs(slides[0].slide_id)
    return Preparation(grid.config, grid.tissue_config, encoder_config, bag.dtype)
