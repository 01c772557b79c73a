"""The verb `train`: folds by patient, thresholds frozen on validation, every test slide seen once."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mil.annotations import load_annotations
from mil.bag_files import Bags, find_bags
from mil.bags import LoadedBag, SlideGroup, group_slides, load_bags
from mil.cohort import Cohort, CohortSlide, Fold
from mil.evaluate import bag_figures
from mil.model import TrainedOn, write_card
from mil.predictions import Fitted, prediction_row, write_predictions, write_scores
from mil.prepare import Preparation
from mil.run_folder import Run
from mil.with_features import with_features
from tiling import replacing

from .config import FitConfig, TrainConfig
from .event_files import check_tensorboard
from .fold_models import FoldModels
from .overflow import overflow
from .sweep import search_space, with_sweep

_MIXED = 1.2  # times as coarse is another resolution; scanners of one name differ by some percent


@dataclass(frozen=True)
class Training:
    """What a training left: the final model's folder, and whether it had to be computed."""

    folder: Path
    is_kept: bool
    seconds: float
    warnings: tuple[str, ...]


def train(
    run: Run,
    encoder: str,
    config: TrainConfig,
    settings: dict[str, str] | None = None,
    *,
    how: FitConfig | None = None,
    store: Path | str | None = None,
    annotations: Path | None = None,
) -> Training:
    """Fit a learner on a run's labelled slides, fold by fold and then on all, and predict each slide.

    Where `config.bag` is "patient", all slides of a patient are one bag of one label, and one prediction.
    A labelled slide's stored prediction comes from the fold model that has not seen it, an unlabelled
    one's from the final model. Folds that are there and were fitted in the same way are kept. `store` is
    a packed store that the features are read from; without it they are the run's own. Slides that have
    none are left out, and told on stderr and in failures.csv. `annotations` is a folder of
    `<slide_id>.geojson`, whose tiles are learned as of the class drawn around them. `how` changes no model
    but by the options that a sweep finds.

    Raises:
        ConfigError: a sweep or event files are asked for, and what writes them is not installed, or
            nothing can be written into the run.
        SlidebagError: labels, patients, split or features are not fit to be learned from.
    """
    started = time.monotonic()
    how, settings = how or FitConfig(), settings or {}
    check_extras(config, how, settings)
    source = find_bags(run, encoder, store)
    found = with_features(run, source, "train")
    Run.create(run.root)  # whether it can be written to is told before the work
    found.tell(run)
    labelled = found.cohort.labelled()
    classes = labelled.classes(config.negative)
    groups = group_slides(found.cohort.slides, config.bag, classes)
    known = [group for group in groups if group.label]
    folds = [_of_bags(fold, labelled, known) for fold in labelled.folds(config.folds, config.seed)]
    drawn = load_annotations(annotations, labelled.slides, source, classes) if annotations else {}
    unlabelled = [group for group in groups if not group.label]
    folder = run.model_folder(config.learner)
    preparation, mixed = preparation_of(source, labelled.slides)
    with overflow(run.root) as to_file:
        everyone = load_bags(  # all of one encoder
            source, [*known, *unlabelled], drawn, to_file=to_file, share=how.jobs != 1
        )
        bags, rest = everyone[: len(known)], everyone[len(known) :]
        models = with_sweep(FoldModels(folder, config, settings, preparation, classes, bags, folds, how))
        is_kept = models.are_there()
        fitted, final = models.fitted()
        tested = [(bags[i], model) for fold, model in zip(folds, fitted, strict=True) for i in fold.test]
        rows = _write(run, source, [*tested, *((bag, final) for bag in rest)])
    _write_splits(folder, folds, bags)
    told = asdict(config) | ({"sweep": how.sweep, "swept": models.swept[""]} if how.sweep else {})
    trained_on = TrainedOn(run, source, known, bags, told, mixed)
    _describe(folder, final, trained_on.without_test_of(folds), rows)
    seconds = time.monotonic() - started
    warnings = (*mixed, *dict.fromkeys(w for f in (*fitted, final) for w in f.learner.warnings))
    run.note("train", {"encoder": encoder, "train": told, "learner": asdict(final.learner.config),
                       "annotations": annotations, "seconds": round(seconds, 2), "warnings": warnings,
                       "left_out": [failure.slide_id for failure in found.left_out]})  # fmt: skip
    return Training(folder, is_kept, seconds, warnings)


def check_extras(config: TrainConfig, how: FitConfig, settings: dict[str, str]) -> None:
    """Raise ConfigError, before anything is read, for what a sweep or event files lack."""
    if how.sweep:
        search_space(config.learner, settings)
    if how.tensorboard:
        check_tensorboard()


def _of_bags(fold: Fold, slides: Cohort, groups: Sequence[SlideGroup]) -> Fold:
    """A fold of slides as one of bags; as no patient is in two parts, neither is a bag."""
    place = {slide.slide_id: k for k, group in enumerate(groups) for slide in group.slides}
    parts = (fold.train, fold.validation, fold.test)
    return Fold(fold.name, *(tuple(sorted({place[slides.slides[i].slide_id] for i in p})) for p in parts))


def _write(run: Run, source: Bags, jobs: Sequence[tuple[LoadedBag, Fitted]]) -> list[dict[str, Any]]:
    """Write predictions.csv and scores, each bag by a model not fitted on it; return the rows."""
    rows = []
    for bag, model in sorted(jobs, key=lambda job: job[0].bag.id):
        prediction = model.predict(bag)
        rows.append(prediction_row(bag, prediction, model))
        write_scores(run, source, bag, prediction, model)
    write_predictions(run, rows)
    return rows


def _write_splits(folder: Path, folds: Sequence[Fold], bags: Sequence[LoadedBag]) -> None:
    parts = [
        {"slide_id": slide.slide_id, "fold": fold.name, "part": part}
        for fold in folds
        for part in ("train", "validation", "test")
        for i in getattr(fold, part)
        for slide in bags[i].slides
    ]
    with replacing(folder / "splits.csv") as temporary:
        pd.DataFrame(parts).to_csv(temporary, index=False)


def _describe(folder: Path, final: Fitted, trained_on: TrainedOn, rows: list[dict[str, Any]]) -> None:
    """Write the model's card, with the figures of the labelled rows of predictions.csv."""
    tested = [row for row in rows if row["label"]]
    names = list(final.learner.classes.names)
    write_card(folder, final, trained_on, bag_figures(pd.DataFrame(tested), names) if tested else {})


def preparation_of(source: Bags, slides: Sequence[CohortSlide]) -> tuple[Preparation, tuple[str, ...]]:
    """Return how the bags of some slides were made, as the first tells, and what is to be warned of.

    Tiles of other tools may have been cut at other resolutions in some slides than in others.
    """
    first = source.grid(slides[0].slide_id)
    encoder_config, bag = source.configs(slides[0].slide_id)
    origin = first.origin.partition(" ")[0]
    preparation = Preparation(first.config, first.tissue_config, encoder_config, bag.dtype, origin)
    mpp = {slide.slide_id: source.grid(slide.slide_id).config.tile_mpp for slide in slides}
    finest, coarsest = min(mpp, key=mpp.__getitem__), max(mpp, key=mpp.__getitem__)
    if mpp[coarsest] < _MIXED * mpp[finest]:
        return preparation, ()
    told = (
        f"tiles are of different resolutions, {mpp[finest]:g} µm/px in {finest} and {mpp[coarsest]:g} in "
        f"{coarsest}: a learner may tell them apart by that; `slidebag regrid` brings them to one"
    )
    return preparation, (told,)
