"""Verbs that work on slides and the places of their tiles."""

from pathlib import Path
from typing import Annotated

import typer

from mil import show
from mil.cohort import Cohort
from mil.exchange import export_run, import_coords, import_features
from mil.options import configured
from mil.prepare import tile as tile_cohort
from mil.qc import qc as qc_run
from mil.regrid import regrid_run
from mil.run_folder import Run
from tiling import GridConfig, SlidebagError, SlideError, TissueConfig, open_slide

from .app import Format, Mpp, Regions, RunFolder, Slides, Table, app


@app.command()
@configured(grid=GridConfig, tissue=TissueConfig)
def tile(
    slides: Slides,
    run: RunFolder,
    grid: GridConfig,
    tissue: TissueConfig,
    table: Table = None,
    mpp: Mpp = None,
    regions: Regions = None,
) -> None:
    """Find the tissue of each slide and cut it into tiles."""
    folder, cohort = Run(run), Cohort.from_folder(slides, table)
    outcome = tile_cohort(cohort, folder, grid, tissue, mpp=mpp, regions=regions)
    show.quality(folder)
    show.finish(folder, outcome)


@app.command()
def qc(run: RunFolder) -> None:
    """Picture each tiled slide, and all on a contact sheet.

    The suspicious ones are in front.
    """
    outcome = qc_run(Run(run))
    show.quality(Run(run))
    show.finish(Run(run), outcome)


@app.command()
def regrid(
    run: Annotated[Path, typer.Argument(help="the run folder whose tiles are wanted at another resolution")],
    out: Annotated[Path, typer.Argument(help="the new run folder, where results go")],
    tile_mpp: Annotated[float, typer.Option("--tile-mpp", help="resolution of the patches in µm/px")],
    tile_px: Annotated[
        int | None, typer.Option("--tile-px", help="tile side in pixels, if not that of the run")
    ] = None,
) -> None:
    """Make a run of the same tiles at another resolution.

    Tiles have the same centres, row for row.
    """
    folder = Run(out)
    outcome = regrid_run(Run(run), folder, tile_mpp=tile_mpp, tile_px=tile_px)
    show.quality(folder)
    show.finish(folder, outcome)


@app.command("import")
def import_command(
    coords: Annotated[Path, typer.Argument(help="folder of the other tool's coordinate files")],
    slides: Slides,
    run: RunFolder,
    format: Format,
    tile_px: Annotated[
        int | None, typer.Option("--tile-px", help="side of the patches in pixels, if not the files' own")
    ] = None,
    tile_mpp: Annotated[
        float | None, typer.Option("--tile-mpp", help="their µm/px, if the files tell no sizes (--tile-px)")
    ] = None,
    features: Annotated[Path | None, typer.Option("--features", help="folder of features to take")] = None,
    encoder: Annotated[str, typer.Option("--encoder", help="whose they are, if the files do not tell")] = "",
    table: Table = None,
    mpp: Mpp = None,
) -> None:
    """Take tiles, and features, from another tool.

    This is instead of `tile` and `extract`.
    """
    folder, cohort = Run(run), Cohort.from_folder(slides, table)
    outcomes = [import_coords(coords, cohort, folder, format, tile_px=tile_px, tile_mpp=tile_mpp, mpp=mpp)]
    if features is not None:
        outcomes.append(import_features(features, folder, format, encoder=encoder))
    show.finish(folder, *outcomes)


@app.command("export")
def export_command(
    run: RunFolder,
    folder: Annotated[Path, typer.Argument(help="where the files go")],
    format: Format,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="with this encoder's features; if not given, none")
    ] = None,
) -> None:
    """Write tiles, and features, as another tool does."""
    show.finish(Run(run), export_run(Run(run), folder, format, encoder=encoder))


@app.command()
def info(slides: Annotated[list[Path], typer.Argument(help="slide files")], mpp: Mpp = None) -> None:
    """Say what a slide file is, and if it can be read.

    Its size, levels, resolution and the source of that, and its reader.
    """
    failed = False
    for path in slides:
        try:
            if not path.exists():  # a path that was typed; others are of the slide table
                raise SlideError(f"{path}: no such file", hint="check how its path is written")
            with open_slide(path, fallback_mpp=mpp) as slide:
                failed |= not show.slide(slide)
                slide.try_reading()
        except SlidebagError as error:
            show.error(str(error))
            failed = True
    raise typer.Exit(int(failed))
