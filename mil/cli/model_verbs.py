"""Verbs that work on models and predictions, and `doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from features import DEFAULT_ENCODER
from mil import show
from mil.cohort import Cohort
from mil.doctor import examine
from mil.evaluate import evaluate as evaluate_run
from mil.heatmap_files import HeatmapConfig
from mil.heatmaps import heatmap as paint_run
from mil.model import export_model as write_onnx
from mil.options import configured
from mil.predict import PredictConfig
from mil.predict import predict as predict_slides
from mil.predictions import load_predictions
from mil.report import report as write_report
from mil.run_folder import Run
from mil.training import FitConfig, TrainConfig
from mil.training import train as train_run
from tiling import OverlayConfig

from .app import Annotations, Mpp, Regions, RunFolder, Settings, Slides, Table, Truth, app, pairs


@app.command()
@configured(train_config=TrainConfig, fit_config=FitConfig)
def train(
    run: RunFolder,
    train_config: TrainConfig,
    fit_config: FitConfig,
    encoder: Annotated[str, typer.Option("--encoder", help="whose features to learn from")] = DEFAULT_ENCODER,
    store: Annotated[
        str | None,
        typer.Option("--store", help="packed store to read features from: a folder, or s3://..."),
    ] = None,
    annotations: Annotations = None,
    settings: Settings = None,
) -> None:
    """Learn from the labels of slides, fold by fold.

    Every slide is predicted by a model that has not seen it.
    """
    folder = Run(run)
    done = train_run(
        folder, encoder, train_config, pairs(settings), how=fit_config, store=store, annotations=annotations
    )
    show.training(done)
    if any(load_predictions(folder)["label"]):
        show.figures(evaluate_run(folder))
    else:
        typer.echo("train: no slide with a label is in the part 'test': nothing to evaluate", err=True)
    show.finish(folder, also=("train",))


@app.command()
@configured(predict_config=PredictConfig)
def predict(
    model: Annotated[Path, typer.Argument(help="a model's folder, such as RUN/models/slidebag")],
    slides: Slides,
    run: RunFolder,
    predict_config: PredictConfig,
    table: Table = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="local weights of the model's encoder")
    ] = None,
    mpp: Mpp = None,
    regions: Regions = None,
) -> None:
    """Apply a saved model to new slides.

    Gives them tiles, features, predictions and scores.
    """
    folder, cohort = Run(run), Cohort.from_folder(slides, table)
    outcomes = predict_slides(
        model, cohort, folder, config=predict_config, weights=weights, mpp=mpp, regions=regions
    )
    show.predictions(folder)
    show.finish(folder, *outcomes)


@app.command(name="export-model")
def export_model(
    model: Annotated[Path, typer.Argument(help="a model's folder, such as RUN/models/slidebag")],
    out: Annotated[Path, typer.Argument(help="the ONNX file")],
) -> None:
    """Write a model's instance head as ONNX.

    It turns features into tile margins and calibrated probabilities.
    """
    typer.echo(f"{out}: probability of {', '.join(write_onnx(model, out))}")


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
    """Paint the stored scores over the slides.

    Pictures, tiles and regions for QuPath, and the probability as an OME-TIFF.
    """
    show.finish(Run(run), paint_run(Run(run), overlay, heatmap_config, only=tuple(slide or ())))


@app.command()
def evaluate(run: RunFolder, truth: Truth = None) -> None:
    """Measure the predictions against the labels.

    And the tiles against known truth, if it is given.
    """
    show.figures(evaluate_run(Run(run), truth))


@app.command()
def report(
    run: RunFolder,
    truth: Truth = None,
    annotations: Annotated[
        Path | None,
        typer.Option("--annotations", help="folder of <slide_id>.geojson: regions of a class, here as truth"),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="also results by this column; may be repeated")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="slide table, for columns that the run does not keep")
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", help="run folder of another model of the same slides; may be repeated"),
    ] = None,
) -> None:
    """Write how good the predictions are and where they fail.

    As a page, tables and figures.
    """
    told = {"truth": truth, "annotations": annotations, "table": table}
    show.report(write_report(Run(run), by=by or (), others=compare or (), **told))


@app.command()
def doctor() -> None:
    """Say what is installed, and on which devices.

    And where the packages come from.
    """
    findings = examine()
    show.findings(findings)
    raise typer.Exit(0 if all(f.is_well for f in findings) else 1)
