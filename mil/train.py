"""The verb `train`: folds by patient, thresholds frozen on validation, every test slide seen once."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiling import ConfigError, fingerprint, replacing

from .bags import Bags, LoadedBag, find_bags, load_bags
from .calibration import HeldOut, calibrate
from .cohort import Cohort, CohortSlide, Fold, labels_of
from .evaluate import slide_figures
from .learner import LEARNERS, Classes, Learner
from .model_card import TrainedOn, write_card
from .novelty import Centres, Novelty, profile
from .predictions import Fitted, prediction_row, write_predictions, write_scores
from .prepare import Preparation
from .recipe import Recipe, stored_recipe_fingerprint
from .run_folder import Run
from .with_features import with_features


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is fitted, and how the cohort is divided."""

    learner: str = field(default="slidebag", metadata={"help": "which learner; see docs/learners.md"})
    folds: int = field(default=5, metadata={"help": "folds by patient, unless the table gives a split"})
    seed: int = field(default=0, metadata={"help": "seed of the folds and of the fitting"})
    negative: str = field(
        default="", metadata={"help": "the negative label; 'none' if all labels are positive (subtypes)"}
    )
    level: float = field(
        default=0.9, metadata={"help": "share of slides whose set of classes has to hold the true one"}
    )

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ConfigError(f"level is {self.level:g}", hint="give more than 0 and less than 1")


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
) -> Training:
    """Fit a learner on a run's labelled slides, fold by fold and then on all, and predict each slide.

    A labelled slide's stored prediction comes from the fold model that has not seen it, an unlabelled
    one's from the final model. Folds that are there and were fitted in the same way are kept. `store` is
    a packed store that the features are read from; without it they are the run's own. Slides that have
    none are left out, and told on stderr and in failures.csv.

    Raises:
        SlidebagError: labels, patients, split or features are not fit to be learned from.
    """
    started = time.monotonic()
    source = find_bags(run, encoder, store)
    found = with_features(run, source, "train")
    found.tell(run)
    labelled = found.cohort.labelled()
    classes = labelled.classes(config.negative)
    folds = labelled.folds(config.folds, config.seed)
    bags = load_bags(source, labelled.slides)
    preparation = preparation_of(source, labelled.slides[0])
    job = _Job(run, source, config, preparation, settings or {}, classes, labelled, bags)
    folder = run.model_folder(config.learner)
    is_kept = all(stored_recipe_fingerprint(job.folder(fold)) == job.fingerprint(fold) for fold in folds)
    fitted = [job.fit_or_load(fold) for fold in folds]
    if fitted[0].fold != "given":
        is_kept &= stored_recipe_fingerprint(folder) == job.fingerprint(None)
        final = job.finish(folder, folds)
    else:
        final = fitted[0]
    rest = [s for s in found.cohort.slides if not s.label]
    rows = job.write(folds, fitted, final, rest, load_bags(source, rest))
    job.describe(folder, final, folds, rows)
    seconds = time.monotonic() - started
    warnings = tuple(dict.fromkeys(w for f in (*fitted, final) for w in f.learner.warnings))
    run.note("train", {"encoder": encoder, "train": asdict(config), "learner": asdict(final.learner.config),
                       "seconds": round(seconds, 2), "warnings": warnings,
                       "left_out": [failure.slide_id for failure in found.left_out]})  # fmt: skip
    return Training(folder, is_kept, seconds, warnings)


@dataclass(frozen=True)
class _Job:
    run: Run
    source: Bags
    config: TrainConfig
    preparation: Preparation
    settings: dict[str, str]
    classes: Classes
    cohort: Cohort
    bags: list[LoadedBag]

    def folder(self, fold: Fold) -> Path:
        """The model of a given split is the final one; fold models lie below it."""
        base = self.run.model_folder(self.config.learner)
        return base if fold.name == "given" else base / "folds" / fold.name

    def fingerprint(self, fold: Fold | None) -> str:
        """Changes with all that a model depends on: options, features, labels and who is in which part."""
        told = [
            (b.fingerprint, s.slide_id, s.label) for b, s in zip(self.bags, self.cohort.slides, strict=True)
        ]
        parts = asdict(fold) if fold else self.config.folds
        learner = new_learner(self.config.learner, self.settings)
        return fingerprint(self.config, learner.config, asdict(self.classes), told, parts)

    def fit_or_load(self, fold: Fold) -> Fitted:
        folder = self.folder(fold)
        if stored_recipe_fingerprint(folder) == self.fingerprint(fold):
            return Fitted.load(folder, fold.name)
        learner = self._fit(fold.train, folder, f"fold {fold.name}")
        held_out = self._held_out(learner, fold)
        held_out.save(folder)
        seen: Sequence[int] = fold.train
        if (
            fold.name != "given"
        ):  # nothing but calibration and thresholds was chosen on these slides: they may be learned from
            seen = sorted(fold.train + fold.validation)
            learner = self._fit(seen, folder, f"fold {fold.name}, all but test")
        return self._save(folder, learner, held_out, seen, fold)

    def _fit(self, chosen: Sequence[int], folder: Path, title: str) -> Learner:
        learner = new_learner(self.config.learner, self.settings)
        history: list[dict[str, float]] = []
        started = time.monotonic()
        labels = labels_of(self.cohort.slides, self.classes)
        learner.fit(
            [self.bags[i].bag for i in chosen],
            [int(labels[i]) for i in chosen],
            self.classes,
            seed=self.config.seed,
            report=lambda figures: history.append(dict(figures)),
        )
        print(f"train: {title}, {len(chosen)} slides, {time.monotonic() - started:.1f} s", file=sys.stderr)
        with replacing(folder / "metrics.csv") as temporary:
            pd.DataFrame(history).to_csv(temporary, index=False)
        return learner

    def _held_out(self, learner: Learner, fold: Fold) -> HeldOut:
        """Ask for the validation slides, whose bag labels alone are looked at."""
        labels = labels_of(self.cohort.slides, self.classes)[list(fold.validation)]
        bags = [self.bags[i].bag for i in fold.validation]
        centres = self._centres(fold.train)
        profiles = np.stack([profile(centres.log_distance(bag.features)) for bag in bags])
        return HeldOut.of([learner.predict(bag) for bag in bags], labels.tolist(), profiles)

    def _centres(self, seen: Sequence[int]) -> Centres:
        return Centres.of([self.bags[i].bag for i in seen if len(self.bags[i].bag)], self.config.seed)

    def _save(
        self, folder: Path, learner: Learner, held_out: HeldOut, seen: Sequence[int], fold: Fold | None
    ) -> Fitted:
        """Freeze by what was held out, and write the model that was fitted on the bags `seen`."""
        frozen = calibrate(held_out, self.classes, self.config.level)
        novelty = Novelty.of(self._centres(seen), held_out.profiles)
        encoder, told = self.bags[0].encoder_fingerprint, self.fingerprint(fold)
        recipe = Recipe(self.preparation, encoder, frozen.slide_threshold, frozen.tile_threshold, told)
        fitted = Fitted(learner, recipe, frozen.calibration, novelty, fold.name if fold else "")
        fitted.save(folder)
        return fitted

    def finish(self, folder: Path, folds: list[Fold]) -> Fitted:
        """Fit the model for new slides on all labelled ones; calibrated on what each fold held out."""
        if stored_recipe_fingerprint(folder) == self.fingerprint(None):
            return Fitted.load(folder)
        held_out = HeldOut.pooled([HeldOut.load(self.folder(fold)) for fold in folds])
        everyone = range(len(self.bags))
        learner = self._fit(everyone, folder, "final model")
        return self._save(folder, learner, held_out, everyone, None)

    def write(
        self,
        folds: list[Fold],
        fitted: list[Fitted],
        final: Fitted,
        rest: Sequence[CohortSlide],
        bags: list[LoadedBag],
    ) -> list[dict[str, Any]]:
        """Write splits.csv, predictions.csv and scores, each slide by a model not fitted on it.

        Returns the rows of predictions.csv.
        """
        jobs = [(self.cohort.slides[i], self.bags[i], f) for k, f in enumerate(fitted) for i in folds[k].test]
        jobs += [(slide, bag, final) for slide, bag in zip(rest, bags, strict=True)]
        rows = []
        for slide, bag, model in sorted(jobs, key=lambda job: job[0].slide_id):
            prediction = model.predict(bag)
            rows.append(prediction_row(slide.slide_id, slide.label, prediction, model))
            write_scores(self.run, self.source, bag, prediction, model)
        write_predictions(self.run, rows)
        parts = [
            {"slide_id": self.cohort.slides[i].slide_id, "fold": fold.name, "part": part}
            for fold in folds
            for part in ("train", "validation", "test")
            for i in getattr(fold, part)
        ]
        with replacing(self.run.model_folder(self.config.learner) / "splits.csv") as temporary:
            pd.DataFrame(parts).to_csv(temporary, index=False)
        return rows

    def describe(self, folder: Path, final: Fitted, folds: list[Fold], rows: list[dict[str, Any]]) -> None:
        """Write the model's card; what a given split keeps for the test is none of its training."""
        chosen = range(len(self.bags))
        if final.fold == "given":
            chosen = sorted(folds[0].train + folds[0].validation)
        trained_on = TrainedOn(
            self.run,
            self.source,
            [self.cohort.slides[i] for i in chosen],
            [self.bags[i] for i in chosen],
            asdict(self.config),
        )
        tested = [row for row in rows if row["label"]]
        figures = slide_figures(pd.DataFrame(tested), list(self.classes.names)) if tested else {}
        write_card(folder, final, trained_on, figures)


def preparation_of(source: Bags, slide: CohortSlide) -> Preparation:
    """Return how the bags of a run were made, as the grid and the bag of one slide tell."""
    grid = source.grid(slide.slide_id)
    encoder_config, bag = source.configs(slide.slide_id)
    return Preparation(grid.config, grid.tissue_config, encoder_config, bag.dtype)
