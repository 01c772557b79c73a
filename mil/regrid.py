"""The verb `regrid`: a run of the tiles of another one, about the same centres at another resolution."""

from dataclasses import replace

from tiling import (
    ConfigError,
    FormatError,
    GridConfig,
    ResolutionError,
    SlideError,
    TileGrid,
    load_grid,
    load_summary,
    load_thumbnail,
    regrid,
    save_grid,
    stored_fingerprint,
)

from .batch import DONE, FAILED, KEPT, Outcome, each_slide, status_of
from .cohort import CohortSlide
from .prepare import open_cohort_slide, summary, tell_slides
from .qc import qc
from .run_folder import PENDING, Run


def regrid_run(run: Run, out: Run, *, tile_mpp: float, tile_px: int | None = None) -> Outcome:
    """Make `out` a run of the tiles of `run` at `tile_mpp` µm/px: the same centres, row for row.

    `tile_px` is the side of the patches, if not that of `run`. Grids that are there and were made in the
    same way are kept; a slide that failed in `run` fails here. `qc` follows.

    Raises:
        ConfigError: `out` is `run`, or no grid can have such tiles.
        FormatError: `run` is no run folder.
    """
    if out.root.resolve() == run.root.resolve():
        raise ConfigError(f"{out.root}: is the run itself", hint="name a new folder for the other resolution")
    # what no slide can have is told once
    GridConfig(tile_mpp=tile_mpp, tile_px=GridConfig.tile_px if tile_px is None else tile_px)
    cohort, problems = run.cohort(), _problems(run)
    out.begin(cohort)
    n_tiles: dict[str, int] = {}

    def work(slide: CohortSlide) -> str:
        if slide.slide_id in problems:
            raise FormatError(problems[slide.slide_id], hint=f"mend it and tile {run.root} again")
        is_kept, grid = _regrid_one(run, out, slide, (tile_mpp, tile_px))
        n_tiles[slide.slide_id] = len(grid)
        return status_of(grid, KEPT if is_kept else DONE)

    outcome = each_slide(out, "regrid", cohort.slides, work)
    tell_slides(out, outcome, "tiled", n_tiles)
    told = {"run": str(run.root.resolve()), "tile_mpp": tile_mpp, "tile_px": tile_px}
    out.note("regrid", told | summary(outcome))
    qc(out)
    return outcome


def _problems(run: Run) -> dict[str, str]:
    """Why slides have no tiles in `run`, by id."""
    rows = run.slides().to_dict("records")
    return {
        row["slide_id"]: row["message"] or f"{row['slide_id']}: not tiled yet in {run.root}"
        for row in rows
        if row["status"] in (FAILED, PENDING)
    }


def _regrid_one(
    run: Run, out: Run, slide: CohortSlide, wanted: tuple[float, int | None]
) -> tuple[bool, TileGrid]:
    """Whether the grid that is there was kept, and the grid."""
    source, path = run.grid_path(slide.slide_id), out.grid_path(slide.slide_id)
    grid, known = load_grid(source), load_summary(source)
    with open_cohort_slide(replace(slide, mpp=grid.mpp)) as opened:
        if opened.fingerprint != grid.slide_fingerprint:
            raise SlideError(
                f"{slide.slide_id}: {slide.path} has changed since it was tiled",
                hint=f"tile {run.root} again",
            )
        try:
            new = regrid(grid, opened, tile_mpp=wanted[0], tile_px=wanted[1])
        except ResolutionError as error:  # enlarging is decided where the tiles are cut
            hint = f"ask for --tile-mpp {grid.mpp:g} or more, or tile {run.root} with --allow-upsampling"
            raise ResolutionError(error.message, hint=hint) from error
    is_kept = stored_fingerprint(path) == new.fingerprint
    if not is_kept:
        save_grid(new, path, thumbnail=load_thumbnail(source), quality=known.quality, reader=known.reader)
    return is_kept, new
