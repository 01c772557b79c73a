"""Verbs that do everything."""

from pathlib import Path
from typing import Annotated

import typer

from features import EncoderConfig
from mil import show
from mil.cohort import Cohort
from mil.demo import demo as run_demo
from mil.extract import ExtractConfig
from mil.heatmap_files import HeatmapConfig
from mil.options import configured
from mil.pipeline import Finished, Plan, run_all
from mil.run_folder import Run
from mil.training import FitConfig, TrainConfig
from tiling import GridConfig, OverlayConfig, TissueConfig

from .app import Annotations, Mpp, Regions, RunFolder, Settings, Slides, Truth, app, pairs


@app.command("run")
@configured(
    grid=GridConfig, tissue=TissueConfig, encoder=EncoderConfig, extract_config=ExtractConfig,
    train_config=TrainConfig, fit_config=FitConfig, overlay=OverlayConfig, heatmap_config=HeatmapConfig,
)  # fmt: skip
def run_command(
    slides: Slides,
    run: RunFolder,
    grid: GridConfig,
    tissue: TissueConfig,
    encoder: EncoderConfig,
    extract_config: ExtractConfig,
    train_config: TrainConfig,
    fit_config: FitConfig,
    overlay: OverlayConfig,
    heatmap_config: HeatmapConfig,
    table: Annotated[Path, typer.Option("--table", help="CSV: slide, label[, patient, mpp, split]")],
    mpp: Mpp = None,
    truth: Truth = None,
    regions: Regions = None,
    annotations: Annotations = None,
    settings: Settings = None,
) -> None:
    """Do everything, from slides and labels to the report.

    Steps: tile, extract, train, evaluate, heatmap, report. The same command again goes on where it was.
    """
    plan = Plan(
        grid=grid, tissue=tissue, encoder=encoder, extract=extract_config,
        train=train_config, fit=fit_config, settings=pairs(settings),
        overlay=overlay, heatmap=heatmap_config,
    )  # fmt: skip
    folder, cohort = Run(run), Cohort.from_folder(slides, table)
    done = run_all(cohort, folder, plan, mpp=mpp, truth=truth, regions=regions, annotations=annotations)
    show.quality(folder)
    _tell(folder, done)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where the example goes")] = Path("slidebag-demo"),
) -> None:
    """Draw slides whose tumour is known, and do everything.

    Nothing is fetched.
    """
    done = run_demo(folder)
    _tell(Run(folder / "run"), done)


def _tell(run: Run, done: Finished) -> None:
    """Print what came out, and end with exit code 1 if slides failed or there is no report."""
    show.training(done.training)
    show.figures(done.evaluation)
    show.overlays(run)
    if done.report is not None:
        show.report(done.report)
    else:
        show.error(f"no report: {done.report_error}")
    show.finish(run, *done.outcomes)
    if done.report is None:
        raise typer.Exit(1)
