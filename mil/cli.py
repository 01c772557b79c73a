"""The command line: parse, call one verb, print a table, pick the exit code."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from features import ENCODERS, EncoderConfig
from tiling import COORDS_FORMATS, GridConfig, OverlayConfig, SlidebagError, TissueConfig, open_slide

from . import show
from .cohort import Cohort
from .demo import demo as run_demo
from .doctor import examine
from .evaluate import evaluate as evaluate_run
from .exchange import export_run, import_coords, import_features
from .extract import ExtractConfig
from .extract import extract as extract_run
from .heatmaps import HeatmapConfig
from .heatmaps import heatmap as paint_run
from .options import Several, configured
from .pack import pack as pack_run
from .pipeline import Plan, run_all
from .predict import predict as predict_slides
from .prepare import tile as tile_cohort
from .qc import qc as qc_run
from .regrid import regrid_run
from .run_folder import Run
from .search import SearchConfig
from .search import search as search_run
from .search_options import QueryOptions
from .train import TrainConfig
from .train import train as train_run

app = typer.Typer(
    help="From a folder of pathology slides and a table of labels to predictions and patch heatmaps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Slides = Annotated[Path, typer.Argument(help="folder of slides, or one slide")]
RunFolder = Annotated[Path, typer.Argument(help="the run folder, where results go")]
Table = Annotated[Path | None, typer.Option("--table", help="CSV: slide, label[, patient, mpp, split]")]
Mpp = Annotated[float | None, typer.Option("--mpp", help="µm/px of slides that state none themselves")]
Truth = Annotated[
    Path | None, typer.Option("--truth", help="folder of PNG masks <slide_id>.png, 128 or more is positive")
]
Regions = Annotated[
    Path | None,
    typer.Option("--regions", help="folder of <slide_id>.geojson or .png: where tiles may lie, where not"),
]
Format = Annotated[str, typer.Option("--format", help=f"the other tool: {', '.join(COORDS_FORMATS)}")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="an option of the learner, key=value; may be repeated")
]


class _Interrupted(BaseException):
    """Ctrl-C; of KeyboardInterrupt the command line's library says nothing but that it was aborted."""


def _interrupt(*_: object) -> None:
    raise _Interrupted


def main() -> None:
    """Run the command line; 0 done, 1 some slides failed, 2 misuse, 130 interrupted."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except SlidebagError as error:
        show.error(str(error))
        sys.exit(2)
    except _Interrupted:
        show.error("stopped; the same command again goes on where it was")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


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
    """Find the tissue of each slide and cut it into a grid of tiles."""
    folder, cohort = Run.create(run), Cohort.from_folder(slides, table)
    outcome = tile_cohort(cohort, folder, grid, tissue, mpp=mpp, regions=regions)
    show.quality(folder)
    show.finish(folder, outcome)


@app.command()
def qc(run: RunFolder) -> None:
    """Picture each tiled slide, and all of them on a contact sheet with the suspicious ones in front."""
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
    """Make a run of the tiles of another one at another resolution: the same centres, row for row."""
    folder = Run.create(out)
    outcome = regrid_run(Run(run), folder, tile_mpp=tile_mpp, tile_px=tile_px)
    show.quality(folder)
    show.finish(folder, outcome)


@app.command()
@configured(encoders=Several(EncoderConfig, by=("encoder", "weights")), extract_config=ExtractConfig)
def extract(run: RunFolder, encoders: tuple[EncoderConfig, ...], extract_config: ExtractConfig) -> None:
    """Encode the tiles of each slide into a bag of features; several encoders in one pass."""
    show.finish(Run(run), extract_run(Run(run), encoders, extract_config))


@app.command()
def pack(
    run: RunFolder,
    out: Annotated[
        str | None,
        typer.Argument(help="a folder or s3://... and the like [default: RUN/features/NAME.zarr]"),
    ] = None,
    encoder: Annotated[str, typer.Option("--encoder", help="whose features to pack")] = "stain-stats",
) -> None:
    """Pack the features of all slides into one store, which `train` reads in their stead."""
    typer.echo(pack_run(Run(run), encoder, out))


@app.command()
@configured(train_config=TrainConfig)
def train(
    run: RunFolder,
    train_config: TrainConfig,
    encoder: Annotated[str, typer.Option("--encoder", help="whose features to learn from")] = "stain-stats",
    store: Annotated[
        str | None,
        typer.Option("--store", help="packed store to read features from: a folder, or s3://..."),
    ] = None,
    settings: Settings = None,
) -> None:
    """Learn from the slides' labels by folds; predict every slide by a model that has not seen it."""
    folder = Run(run)
    done = train_run(folder, encoder, train_config, _pairs(settings), store=store)
    show.training(done)
    show.figures(evaluate_run(folder))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="a model's folder, such as RUN/models/slidebag")],
    slides: Slides,
    run: RunFolder,
    table: Table = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="local weights of the model's encoder")
    ] = None,
    mpp: Mpp = None,
    regions: Regions = None,
    batch: Annotated[int, typer.Option("--batch", help="patches encoded at a time; 0 is what suits")] = 0,
    device: Annotated[str, typer.Option("--device", help="where the encoder runs; as for extract")] = "auto",
) -> None:
    """Apply a saved model to new slides: tiles, features, predictions and scores."""
    folder, cohort = Run.create(run), Cohort.from_folder(slides, table)
    outcomes = predict_slides(
        model, cohort, folder,
        weights=weights, mpp=mpp, regions=regions, extract_config=ExtractConfig(batch=batch, device=device),
    )  # fmt: skip
    show.predictions(folder)
    show.finish(folder, *outcomes)


@app.command()
@configured(overlay=OverlayConfig, heatmap_config=HeatmapConfig)
def heatmap(
    run: RunFolder,
    overlay: OverlayConfig,
    heatmap_config: HeatmapConfig,
    slide: Annotated[
        list[str] | None, typer.Option("--slide", help="only this slide; may be repeated")
    ] = None,
) -> None:
    """Paint the stored scores over the slides (PNG) and write the tiles for QuPath (GeoJSON)."""
    show.finish(Run(run), paint_run(Run(run), overlay, heatmap_config, only=tuple(slide or ())))


@app.command()
def evaluate(run: RunFolder, truth: Truth = None) -> None:
    """Measure the predictions against the labels and, if given, the tiles against known truth."""
    show.figures(evaluate_run(Run(run), truth))


@app.command()
@configured(asked=QueryOptions, search_config=SearchConfig)
def search(
    run: RunFolder,
    asked: QueryOptions,
    search_config: SearchConfig,
    encoder: Annotated[str, typer.Option("--encoder", help="whose features are compared")] = "stain-stats",
) -> None:
    """Find the tiles that look most like a tile, a region of a slide, or a picture."""
    show.hits(search_run(Run(run), asked.query(), encoder, search_config))


@app.command("run")
@configured(
    grid=GridConfig, tissue=TissueConfig, encoder=EncoderConfig, extract_config=ExtractConfig,
    train_config=TrainConfig, overlay=OverlayConfig, heatmap_config=HeatmapConfig,
)  # fmt: skip
def run_command(
    slides: Slides,
    run: RunFolder,
    grid: GridConfig,
    tissue: TissueConfig,
    encoder: EncoderConfig,
    extract_config: ExtractConfig,
    train_config: TrainConfig,
    overlay: OverlayConfig,
    heatmap_config: HeatmapConfig,
    table: Annotated[Path, typer.Option("--table", help="CSV: slide, label[, patient, mpp, split]")],
    mpp: Mpp = None,
    truth: Truth = None,
    regions: Regions = None,
    settings: Settings = None,
) -> None:
    """Do everything: tile, extract, train, evaluate, heatmap. The same command again goes on where it was."""
    plan = Plan(
        grid=grid, tissue=tissue, encoder=encoder, extract=extract_config,
        train=train_config, overlay=overlay, heatmap=heatmap_config,
    )  # fmt: skip
    folder, cohort = Run.create(run), Cohort.from_folder(slides, table)
    done = run_all(cohort, folder, plan, mpp=mpp, settings=_pairs(settings), truth=truth, regions=regions)
    show.quality(folder)
    show.training(done.training)
    show.figures(done.evaluation)
    show.overlays(folder)
    show.finish(folder, *done.outcomes)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where the example goes")] = Path("slidebag-demo"),
) -> None:
    """Draw a small cohort with known tumour and take it the whole way; no network, no weights."""
    done = run_demo(folder)
    run = Run(folder / "run")
    show.training(done.training)
    show.figures(done.evaluation)
    show.overlays(run)
    show.finish(run, *done.outcomes)


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
    """Take the tiles of each slide, and features, from another tool instead of `tile` and `extract`."""
    folder, cohort = Run.create(run), Cohort.from_folder(slides, table)
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
    """Write the tiles of each slide, and features, as another tool does."""
    show.finish(Run(run), export_run(Run(run), folder, format, encoder=encoder))


@app.command()
def encoders() -> None:
    """List the encoders by name."""
    show.encoders([ENCODERS[name].card for name in ENCODERS])


@app.command()
def info(slides: Annotated[list[Path], typer.Argument(help="slide files")], mpp: Mpp = None) -> None:
    """Say what a slide file is: size, levels, resolution and its source, reader."""
    failed = False
    for path in slides:
        try:
            with open_slide(path, fallback_mpp=mpp) as slide:
                failed |= not show.slide(slide)
        except SlidebagError as error:
            show.error(str(error))
            failed = True
    raise typer.Exit(int(failed))


@app.command()
def doctor() -> None:
    """Say what is installed, which devices there are, and where the packages come from."""
    findings = examine()
    show.findings(findings)
    raise typer.Exit(0 if all(f.is_well for f in findings) else 1)


def _pairs(settings: list[str] | None) -> dict[str, str]:
    pairs = [s.partition("=") for s in settings or []]
    for key, equals, _ in pairs:
        if not equals:
            raise SlidebagError(f"--set {key!r} has no value", hint="write --set key=value")
    return {key.strip().replace("-", "_"): value.strip() for key, _, value in pairs}


if __name__ == "__main__":
    main()
