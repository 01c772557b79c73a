"""From slide files to feature bags: the verbs `tile` and `extract`, resumed by fingerprint."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from features import (
    BagConfig,
    Encoder,
    EncoderConfig,
    bag_fingerprint,
    extract_features,
    find_encoder,
    load_encoder,
)
from tiling import (
    GridConfig,
    Slide,
    TissueConfig,
    grid_fingerprint,
    load_grid,
    open_slide,
    save_grid,
    segment_tissue,
    stored_fingerprint,
    tile_slide,
)

from .batch import DONE, FAILED, KEPT, NO_TISSUE, Outcome, each_slide
from .cohort import Cohort, CohortSlide
from .run_folder import Run


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(BagConfig):
    """How feature bags are stored and with what they are computed."""

    device: str = field(default="cpu", metadata={"help": "where the encoder runs: cpu, cuda, cuda:1, mps"})


@dataclass(frozen=True)
class Preparation:
    """All that decides what a slide's bag holds; a model keeps it, to treat new slides alike."""

    grid: GridConfig
    tissue: TissueConfig
    encoder: EncoderConfig
    dtype: str


def tile(
    cohort: Cohort, run: Run, grid: GridConfig, tissue: TissueConfig, *, mpp: float | None = None
) -> Outcome:
    """Cut every slide of a cohort into a grid below `run`; `mpp` stands in where a slide states none.

    Grids that are there and were made in the same way are kept.
    """
    run.begin(cohort)
    n_tiles: dict[str, int] = {}

    def work(slide: CohortSlide) -> str:
        path = run.grid_path(slide.slide_id)
        with _open(slide, mpp) as opened:
            is_kept = stored_fingerprint(path) == grid_fingerprint(opened, grid, tissue)
            if not is_kept:
                _tile_one(opened, path, grid, tissue)
        n_tiles[slide.slide_id] = len(load_grid(path))
        return (KEPT if is_kept else DONE) if n_tiles[slide.slide_id] else NO_TISSUE

    outcome = each_slide(run, "tile", cohort.slides, work)
    run.record_failures("cohort", cohort.failures)
    _tell(run, outcome, "tiled", n_tiles)
    run.note("tile", {"grid": asdict(grid), "tissue": asdict(tissue), "mpp": mpp, **_summary(outcome)})
    return outcome


def _open(slide: CohortSlide, mpp: float | None = None) -> Slide:
    return open_slide(slide.path, id=slide.slide_id, mpp=slide.mpp, fallback_mpp=mpp)


def _tile_one(slide: Slide, path: Path, grid: GridConfig, tissue: TissueConfig) -> None:
    mask = segment_tissue(slide, tissue)
    save_grid(tile_slide(slide, mask, grid, tissue), path, thumbnail=mask.thumbnail)


def extract(run: Run, encoder: EncoderConfig, config: ExtractConfig) -> Outcome:
    """Encode every tiled slide of a run into a feature bag; whole bags made in the same way are kept.

    Raises:
        ConfigError: no such encoder, or a grid of the run does not fit it.
        SlidebagError: the encoder's weights cannot be had.
    """
    cohort = run.cohort("tiled", NO_TISSUE, "extracted", "not extracted")
    for slide in cohort.slides[:1]:  # a misfit is told before the weights are loaded
        told = load_grid(run.grid_path(slide.slide_id)).config
        find_encoder(encoder.encoder).card.check_patch(told.tile_px, told.tile_mpp)
    loaded = load_encoder(encoder, device=config.device)

    def work(slide: CohortSlide) -> str:
        return _extract_one(run, slide, loaded, encoder, config)

    outcome = each_slide(run, "extract", cohort.slides, work)
    _tell(run, outcome, "extracted", {})
    run.note("extract", {"encoder": asdict(encoder), "extract": asdict(config), **_summary(outcome)})
    return outcome


def _extract_one(
    run: Run, slide: CohortSlide, loaded: Encoder, encoder: EncoderConfig, config: ExtractConfig
) -> str:
    grid = load_grid(run.grid_path(slide.slide_id))
    path = run.features_path(encoder.encoder, slide.slide_id)
    if stored_fingerprint(path) == bag_fingerprint(grid.fingerprint, loaded, config):
        return KEPT if len(grid) else NO_TISSUE
    with open_slide(slide.path, id=slide.slide_id, mpp=grid.mpp) as opened:
        extract_features(opened, grid, loaded, path, encoder_config=encoder, config=config)
    return DONE if len(grid) else NO_TISSUE


def _tell(run: Run, outcome: Outcome, done: str, n_tiles: dict[str, int]) -> None:
    """Bring slides.csv up to date with an outcome."""
    errors = {f.slide_id: f.error for f in outcome.failures}
    failed = "failed" if outcome.step == "tile" else "not extracted"
    told = {}
    for slide_id, status in outcome.statuses:
        shown = {FAILED: failed, NO_TISSUE: NO_TISSUE}.get(status, done)
        told[slide_id] = {"status": shown, "message": errors.get(slide_id, "")}
        if slide_id in n_tiles:
            told[slide_id]["n_tiles"] = n_tiles[slide_id]
    run.update_slides(told)


def _summary(outcome: Outcome) -> dict:
    return {"seconds": round(outcome.seconds, 2), "slides": outcome.counts}
