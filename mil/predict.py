"""The verb `predict`: a saved model on new slides, from the files to the scores."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tiling import SlidebagError

from .bags import BagFiles, SlideGroup, group_slides, load_bag
from .batch import DONE, KEPT, NO_TISSUE, Outcome, each_slide
from .cohort import Cohort
from .extract import ExtractConfig, extract_by, load_workers
from .learner import load_learner
from .predictions import Fitted, prediction_row, write_predictions, write_scores
from .prepare import tile
from .recipe import Recipe
from .run_folder import Run


def predict(
    model: Path,
    cohort: Cohort,
    run: Run,
    *,
    weights: str | None = None,
    mpp: float | None = None,
    regions: Path | None = None,
    extract_config: ExtractConfig | None = None,
) -> list[Outcome]:
    """Tile, extract and predict slides exactly as the model's own training slides were.

    `mpp` and `regions` are those of `tile`. Of `extract_config` the dtype is not heeded: it is the model's.

    Raises:
        FormatError: there is no whole model in `model`.
        SlidebagError: the encoder or its weights are not those that the model was trained on.
    """
    config = extract_config or ExtractConfig()
    recipe = Recipe.load(model)
    fitted = Fitted(load_learner(model), recipe)
    how = recipe.preparation
    encoder = replace(how.encoder, weights=weights)
    workers = load_workers([encoder], config)
    found = workers[0][0].fingerprint
    if found != recipe.encoder_fingerprint:
        raise SlidebagError(
            f"{model}: trained on encoder {encoder.encoder} {recipe.encoder_fingerprint}, found {found}",
            hint="give the weights it was trained on with --weights; "
            "of features that another tool computed, the encoder cannot be had",
        )
    tiled = tile(cohort, run, how.grid, how.tissue, mpp=mpp, regions=regions)
    extracted = extract_by(run, workers, replace(config, dtype=how.dtype))
    source = BagFiles(run, encoder.encoder)
    slides = run.cohort("extracted", NO_TISSUE).slides
    groups = group_slides(slides, recipe.bag, fitted.learner.classes)
    group_of = {slide.slide_id: group for group in groups for slide in group.slides}
    rows: list[dict[str, Any]] = []

    @cache  # of a patient's slides the first does it for all
    def predict_bag(group: SlideGroup) -> str:
        loaded = load_bag(source, group)
        prediction = fitted.predict(loaded)
        is_new = write_scores(run, source, loaded, prediction, fitted)
        rows.append(prediction_row(loaded, prediction, fitted))
        return NO_TISSUE if prediction.flags else DONE if is_new else KEPT

    predicted = each_slide(run, "predict", slides, lambda slide: predict_bag(group_of[slide.slide_id]))
    write_predictions(run, rows)
    run.note(
        "predict", {"model": str(model), "seconds": round(predicted.seconds, 2), "slides": predicted.counts}
    )
    return [tiled, extracted, predicted]
