"""The verb `run`: from a folder of slides and a label table to predictions, heatmaps and a report."""

from dataclasses import dataclass, field
from pathlib import Path

from features import EncoderConfig, find_encoder
from tiling import ConfigError, GridConfig, OverlayConfig, SlidebagError, TissueConfig

from .annotations import check_annotations
from .bags import group_slides
from .batch import Outcome
from .cohort import Cohort
from .evaluate import Evaluation, evaluate
from .extract import ExtractConfig, extract
from .heatmap_files import HeatmapConfig
from .heatmaps import heatmap
from .prepare import tile
from .report import Report, report
from .run_folder import Run
from .slide_table import CohortError
from .training import FitConfig, TrainConfig, Training, check_extras, new_learner, train


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of every step of a run; `settings` are the learner's own, as text by name."""

    grid: GridConfig = field(default_factory=GridConfig)
    tissue: TissueConfig = field(default_factory=TissueConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    settings: dict[str, str] = field(default_factory=dict)
    overlay: OverlayConfig = field(default_factory=OverlayConfig)
    heatmap: HeatmapConfig = field(default_factory=HeatmapConfig)


@dataclass(frozen=True)
class Finished:
    """What a run left behind: each step's outcome, the training, its evaluation and the report.

    `report` is None where it could not be made; `report_error` tells why.
    """

    outcomes: tuple[Outcome, ...]
    training: Training
    evaluation: Evaluation
    report: Report | None
    report_error: str = ""


def run_all(
    cohort: Cohort,
    run: Run,
    plan: Plan,
    *,
    mpp: float | None = None,
    truth: Path | None = None,
    regions: Path | None = None,
    annotations: Path | None = None,
) -> Finished:
    """Tile, extract, train, evaluate, paint and report; whatever is there and still right is kept.

    Raises:
        SlidebagError: nothing could be learned, as the message says; a bad slide alone does not raise.
    """
    # what cannot be learned from, or with, is told before hours of extraction
    check_extras(plan.train, plan.fit, plan.settings)
    new_learner(plan.train.learner, plan.settings)
    labelled = cohort.labelled()
    classes = labelled.classes(plan.train.negative)
    group_slides(labelled.slides, plan.train.bag, classes)
    if not any(fold.test for fold in labelled.folds(plan.train.folds, plan.train.seed)):
        raise CohortError(
            "the column 'split' leaves 'test' empty, so nothing could be evaluated",
            hint="put some slides into 'test', or go step by step: `tile`, `extract`, `train`",
        )
    find_encoder(plan.encoder.encoder).card.check_patch(plan.grid.tile_px, plan.grid.tile_mpp)
    if annotations is not None:
        check_annotations(annotations, labelled.slides, classes)
    if truth is not None:
        _check_truth(truth)
    tiled = tile(cohort, run, plan.grid, plan.tissue, mpp=mpp, regions=regions)
    extracted = extract(run, plan.encoder, plan.extract)
    training = train(
        run, plan.encoder.encoder, plan.train, plan.settings, how=plan.fit, annotations=annotations
    )
    evaluation = evaluate(run, truth)
    painted = heatmap(run, plan.overlay, plan.heatmap)
    written, why = None, ""
    try:
        written = report(run, truth=truth)
    except SlidebagError as error:  # what was learned is there all the same
        why = str(error)
    return Finished((tiled, extracted, painted), training, evaluation, written, why)


def _check_truth(folder: Path) -> None:
    """A misspelt folder is told at once, not by the evaluation, which is after the training."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder", hint="name the folder of <slide_id>.png")
