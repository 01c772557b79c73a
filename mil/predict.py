"""The verb `predict`: a saved model on new slides, from the files to the scores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiling import SlidebagError

from .bags import BagFiles, as_loaded
from .batch import DONE, KEPT, NO_TISSUE, Outcome, each_slide
from .cohort import Cohort, CohortSlide
from .extract import ExtractConfig, extract_by, load_workers
from .predictions import Fitted, prediction_row, write_predictions, write_scores
from .prepare import tile
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
    fitted = Fitted.load(model)
    how = fitted.recipe.preparation
    encoder = replace(how.encoder, weights=weights)
    workers = load_workers([encoder], config)
    found, wanted = workers[0][0].fingerprint, fitted.recipe.encoder_fingerprint
    if found != wanted:
        raise SlidebagError(
            f"{model}: trained on encoder {encoder.encoder} {wanted}, found {found}",
            hint="give the weights it was trained on with --weights; "
            "of features that another tool computed, the encoder cannot be had",
        )
    tiled = tile(cohort, run, how.grid, how.tissue, mpp=mpp, regions=regions)
    extracted = extract_by(run, workers, replace(config, dtype=how.dtype))
    source = BagFiles(run, encoder.encoder)
    rows: list[dict[str, Any]] = []

    def work(slide: CohortSlide) -> str:
        loaded = as_loaded(source.bag(slide.slide_id))
        prediction = fitted.predict(loaded)
        rows.append(prediction_row(slide.slide_id, slide.label, prediction, fitted))
        is_new = write_scores(run, source, loaded, prediction, fitted)
        return NO_TISSUE if NO_TISSUE in prediction.flags else DONE if is_new else KEPT

    predicted = each_slide(run, "predict", run.cohort("extracted", NO_TISSUE).slides, work)
    write_predictions(run, rows)
    run.note(
        "predict", {"model": str(model), "seconds": round(predicted.seconds, 2), "slides": predicted.counts}
    )
    return [tiled, extracted, predicted]
