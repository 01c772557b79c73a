"""From slide files to grids: the verb `tile`, resumed by fingerprint."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from features import EncoderConfig
from tiling import (
    ConfigError,
    FormatError,
    GridConfig,
    Slide,
    SlideError,
    TissueConfig,
    TissueMask,
    TissueQuality,
    find_regions,
    grid_fingerprint,
    keep_regions,
    load_grid,
    measure_quality,
    open_slide,
    save_grid,
    segment_tissue,
    slide_picture,
    stored_fingerprint,
    tile_slide,
)

from .batch import (
    DONE,
    FAILED,
    KEPT,
    NO_TILE,
    NO_TILE_HINT,
    NO_TILE_WHY,
    WITHOUT_TILES,
    Outcome,
    each_slide,
    some,
    status_of,
)
from .cohort import Cohort, CohortSlide
from .qc import qc
from .run_folder import Run

_LEAST_THUMBNAIL_PX = 512


@dataclass(frozen=True)
class Preparation:
    """All that decides what a slide's bag holds; a model keeps it, to treat new slides alike."""

    grid: GridConfig
    tissue: TissueConfig
    encoder: EncoderConfig
    dtype: str
    origin: str = ""  # what placed the tiles, if not slidebag alone: regions, centres, another tool


def tile(
    cohort: Cohort,
    run: Run,
    grid: GridConfig,
    tissue: TissueConfig,
    *,
    mpp: float | None = None,
    regions: Path | None = None,
) -> Outcome:
    """Cut every slide of a cohort into a grid below `run`; `mpp` stands in where a slide states none.

    `regions` is a folder of `<slide_id>.geojson` or `<slide_id>.png` that say where the tiles may lie.
    Grids that are there and were made in the same way are kept, and so is what the run's slides.csv knows of
    slides if the cohort knows nothing of any. `qc` follows.

    Raises:
        ConfigError: there is no folder `regions`, or it has nothing for any of the slides, or `run` holds a
            slides.csv that no run has written.
        FormatError: the slides.csv of `run` is damaged.
    """
    if regions is not None:
        _check_regions(regions, cohort)
    cohort = run.begin(cohort)
    n_tiles: dict[str, int] = {}

    def work(slide: CohortSlide) -> str:
        path = run.grid_path(slide.slide_id)
        inside = find_regions(regions, slide.slide_id) if regions else None
        origin = f"regions {inside.fingerprint}" if inside else ""
        with open_cohort_slide(slide, mpp) as opened:
            is_kept = stored_fingerprint(path) == grid_fingerprint(opened, grid, tissue, origin=origin)
            if not is_kept:
                found = segment_tissue(opened, tissue)
                mask = keep_regions(found, inside, shown_from_px=opened.shown_from_px) if inside else found
                cut = tile_slide(opened, mask, grid, tissue, origin=origin)
                save_grid(
                    cut, path,
                    thumbnail=_thumbnail(opened, mask), quality=_quality(opened, mask, found),
                    reader=opened.reader,
                )  # fmt: skip
        left = load_grid(path)
        n_tiles[slide.slide_id] = len(left)
        return status_of(left, KEPT if is_kept else DONE)

    outcome = each_slide(run, "tile", cohort.slides, work)
    run.record_failures("cohort", cohort.failures)
    tell_slides(run, outcome, "tiled", n_tiles)
    told = {"grid": asdict(grid), "tissue": asdict(tissue), "mpp": mpp, "regions": regions}
    run.note("tile", told | summary(outcome))
    qc(run)
    return outcome


def _thumbnail(slide: Slide, mask: TissueMask) -> np.ndarray:
    """What a person will look at: the picture that tissue was sought on, unless it is too small for that."""
    is_small = max(mask.thumbnail.shape[:2]) < _LEAST_THUMBNAIL_PX
    return slide_picture(slide, 2 * _LEAST_THUMBNAIL_PX) if is_small else mask.thumbnail


def _quality(slide: Slide, mask: TissueMask, found: TissueMask) -> TissueQuality | None:
    """The quality of the tissue that is left of `found` in `mask`."""
    if mask is found or found.quality is None:
        return found.quality
    mpp = slide.mpp * slide.size_px[0] / mask.mask.shape[1]
    return measure_quality(mask.mask, mask.thumbnail, mpp, background=found.quality.background)


def _check_regions(folder: Path, cohort: Cohort) -> None:
    """A misspelt folder or name is told at once, not by tiles that lie everywhere."""
    for slide in cohort.slides:
        try:
            if find_regions(folder, slide.slide_id):
                return
        except FormatError:  # told again, and as this slide's failure, when its turn comes
            return
    raise ConfigError(
        f"{folder}: has no regions for any of the {len(cohort)} slides",
        hint=f"name the files by slide, such as {cohort.slides[0].slide_id}.geojson",
    )


def open_cohort_slide(slide: CohortSlide, mpp: float | None = None) -> Slide:
    """Open a slide under its id and the table's resolution; `mpp` stands in where it states none.

    Raises:
        SlideError: the file is not there, or no reader opens it.
    """
    if slide.path.is_symlink() and not slide.path.exists():
        raise SlideError(
            f"{slide.slide_id}: {slide.path} links to {slide.path.readlink()}, which is not there",
            hint="bring that file back, or remove the link",
        )
    return open_slide(slide.path, id=slide.slide_id, mpp=slide.mpp, fallback_mpp=mpp)


def tell_slides(run: Run, outcome: Outcome, done: str, n_tiles: dict[str, int]) -> None:
    """Bring slides.csv up to date with an outcome; `done` is the status of slides that went well."""
    errors = {f.slide_id: f.error for f in outcome.failures}
    failed = "not extracted" if done == "extracted" else "failed"
    told = {}
    for slide_id, status in outcome.statuses:
        shown = status if status in WITHOUT_TILES else failed if status == FAILED else done
        message = f"{NO_TILE_WHY}: {NO_TILE_HINT}" if status == NO_TILE else ""
        told[slide_id] = {"status": shown, "message": errors.get(slide_id, message)}
        if slide_id in n_tiles:
            told[slide_id]["n_tiles"] = n_tiles[slide_id]
    run.update_slides(told)
    missed = [slide_id for slide_id, status in outcome.statuses if status == NO_TILE]
    if missed and done == "tiled":
        print(f"{outcome.step}: {NO_TILE_WHY}: {some(missed)}; {NO_TILE_HINT}", file=sys.stderr)


def summary(outcome: Outcome) -> dict:
    """Return what run.json says of how a step went."""
    return {"seconds": round(outcome.seconds, 2), "slides": outcome.counts}
