"""The verb `predict`: a saved model on new slides, from the files to the scores."""

import sys
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from features import ENGINES, PRECISIONS, Encoder, imported_from
from tiling import ConfigError, SlidebagError

from .bag_files import BagFiles
from .bags import SlideGroup, group_slides, load_bag
from .batch import DONE, KEPT, WITHOUT_TILES, Outcome, each_slide
from .classes import Classes
from .cohort import Cohort
from .extract import ExtractConfig, extract_by, load_workers
from .model import Recipe
from .predictions import Fitted, prediction_row, unknown_labels, write_predictions, write_scores
from .prepare import tile
from .run_folder import Run


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """With what the features of new slides are computed; what they are is the model's to say."""

    precision: str = field(
        default="",
        metadata={"help": f"another arithmetic than the model learned from: {', '.join(PRECISIONS)}"},
    )
    engine: str = field(default="auto", metadata={"help": f"what computes a network: {', '.join(ENGINES)}"})
    batch: int = field(default=0, metadata={"help": "patches encoded at a time; 0 is what suits the encoder"})
    device: str = field(default="auto", metadata={"help": "where the encoder runs; as for extract"})
    readers: int = field(default=0, metadata={"help": "slides read at a time; 0 is what suits the device"})


def predict(
    model: Path,
    cohort: Cohort,
    run: Run,
    *,
    config: PredictConfig | None = None,
    weights: str | None = None,
    mpp: float | None = None,
    regions: Path | None = None,
) -> list[Outcome]:
    """Tile, extract and predict slides exactly as the model's own training slides were.

    `mpp` and `regions` are those of `tile`. Features are computed in the precision that the model learned
    from; in another one only if `config` asks for it, which is said on stderr and kept in run.json.

    Raises:
        CohortError: a patient, where one bag is one, has slides of labels that exclude each other.
        FormatError: there is no whole model in `model`.
        ConfigError: a training took place in `run`, whose predictions and labels would be lost; the model
            learned from imported features, or its precision cannot be had here.
        SlidebagError: the encoder or its weights are not those that the model was trained on.
    """
    config = config or PredictConfig()
    fitted = Fitted.load(model)
    recipe = fitted.recipe
    _check(run, model, fitted, cohort, regions)
    how = recipe.preparation
    own = how.encoder.precision
    # the model reads features alone: token vectors are not computed again
    told = replace(
        how.encoder, weights=weights, precision=config.precision or own, engine=config.engine, token_side=0
    )
    computing = ExtractConfig(
        dtype=how.dtype, batch=config.batch, device=config.device, readers=config.readers
    )
    workers = load_workers([told], computing)
    encoder = workers[0][0]
    _check_encoder(model, recipe, encoder)
    tiled = tile(cohort, run, how.grid, how.tissue, mpp=mpp, regions=regions)
    extracted = extract_by(run, workers, computing)
    source = BagFiles(run, told.encoder)
    slides = run.cohort("extracted", *WITHOUT_TILES).slides
    groups = group_slides(slides, recipe.bag, fitted.learner.classes)
    group_of = {slide.slide_id: group for group in groups for slide in group.slides}
    rows: list[dict[str, Any]] = []

    @cache  # of a patient's slides the first does it for all
    def predict_bag(group: SlideGroup) -> str:
        loaded = load_bag(source, group)
        prediction = fitted.predict(loaded)
        is_new = write_scores(run, source, loaded, prediction, fitted)
        rows.append(prediction_row(loaded, prediction, fitted))
        without_tiles = [flag for flag in prediction.flags if flag in WITHOUT_TILES]
        return without_tiles[0] if without_tiles else DONE if is_new else KEPT

    predicted = each_slide(run, "predict", slides, lambda slide: predict_bag(group_of[slide.slide_id]))
    write_predictions(run, rows)
    run.note("predict", {
        "model": str(model.absolute()), "predict": asdict(config), "learned_in": own,
        "precision": encoder.precision, "engine": encoder.engine, "slides": predicted.counts,
        "seconds": round(predicted.seconds, 2)})  # fmt: skip
    return [tiled, extracted, predicted]


def _check(run: Run, model: Path, fitted: Fitted, cohort: Cohort, regions: Path | None) -> None:
    """Tell before any work what would end it, such as features that cannot be computed, or be wrong."""
    if run.is_trained():
        raise ConfigError(
            f"{run.root}: a training took place there, and its predictions.csv and slides.csv would be lost",
            hint="name another run folder for what is predicted",
        )
    recipe = fitted.recipe
    _tell_unknown_labels(cohort, fitted.learner.classes)
    group_slides(cohort.slides, recipe.bag, fitted.learner.classes)
    encoder = recipe.preparation.encoder.encoder
    tool = imported_from(encoder, recipe.encoder_fingerprint)
    if tool is not None:  # an encoder of that name gives features like them, but nobody knows how like
        raise ConfigError(
            f"{model}: learned from features of {encoder!r} that were imported from {tool}, "
            "which slidebag cannot compute for new slides",
            hint="extract the training slides with slidebag and train on that",
        )
    _tell_origin(recipe.preparation.origin, regions)


def _tell_unknown_labels(cohort: Cohort, classes: Classes) -> None:
    """Say on stderr which labels cannot be compared with predictions, as one that is misspelt."""
    who, told = unknown_labels((slide.label for slide in cohort.slides), classes.names)
    if who:
        print(f"predict: {who} that the model does not know {told}", file=sys.stderr)


def _tell_origin(origin: str, regions: Path | None) -> None:
    """Say on stderr if what placed the model's own tiles does not place those of new slides."""
    if origin and not (origin == "regions" and regions):
        print(
            f"predict: the tiles that the model learned from were placed by {origin}, those of new slides "
            "are by slidebag alone, so probabilities may be off",
            file=sys.stderr,
        )


def _check_encoder(model: Path, recipe: Recipe, encoder: Encoder) -> None:
    """Raise SlidebagError on other weights than the model's; say on stderr if the precision is another."""
    own = recipe.preparation.encoder.precision
    found = encoder.fingerprint_in(own)
    if found != recipe.encoder_fingerprint:
        raise SlidebagError(
            f"{model}: trained on encoder {encoder.card.name} {recipe.encoder_fingerprint}, found {found}",
            hint="give the weights it was trained on with --weights",
        )
    if encoder.precision != own:
        print(
            f"predict: features in {encoder.precision}, as asked for; the model learned from {own}, "
            "so probabilities may be off a little",
            file=sys.stderr,
        )
