"""The verb `heatmap`: pictures and QuPath tiles from stored scores; no model is needed any more."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from tiling import (
    ConfigError,
    Legend,
    OverlayConfig,
    TileGrid,
    fingerprint,
    geojson_fingerprint,
    load_grid,
    open_slide,
    overlay_fingerprint,
    paint,
    write_geojson,
    write_overlay,
)

from .batch import DONE, KEPT, Outcome, each_slide
from .classes import SEPARATOR, names_in
from .cohort import Cohort, CohortSlide
from .predictions import rows_by_slide
from .run_folder import Run
from .scores import Scores, load_scores


@dataclass(frozen=True, kw_only=True)
class HeatmapConfig:
    """Which heatmaps are written."""

    geojson: bool = field(default=True, metadata={"help": "also write the tiles for QuPath"})


def heatmap(
    run: Run, overlay: OverlayConfig, config: HeatmapConfig, *, only: tuple[str, ...] = ()
) -> Outcome:
    """Write the heatmaps of all predicted slides of a run, or of those in `only`.

    Raises:
        ConfigError: a slide in `only` has no prediction.
        FormatError: the run has no predictions.
    """
    rows = rows_by_slide(run)
    missing = sorted(set(only) - rows.keys())
    if missing:
        raise ConfigError(f"slide {missing[0]!r} has no prediction in {run.root}", hint="see predictions.csv")
    chosen = [s for s in run.cohort().slides if s.slide_id in (only or rows)]

    def work(slide: CohortSlide) -> str:
        return _write_one(run, slide, rows[slide.slide_id], overlay, config)

    outcome = each_slide(run, "heatmap", Cohort(tuple(chosen)).slides, work)
    told = {"overlay": asdict(overlay), "heatmap": asdict(config), "seconds": round(outcome.seconds, 2)}
    run.note("heatmap", {**told, "slides": outcome.counts})
    return outcome


def _write_one(
    run: Run, slide: CohortSlide, row: dict[str, str], overlay: OverlayConfig, config: HeatmapConfig
) -> str:
    grid = load_grid(run.grid_path(slide.slide_id))
    scores = load_scores(run.scores_path(slide.slide_id), grid=grid)
    expected = fingerprint(scores.fingerprint, row["prediction"], row["tile_threshold"], overlay)
    folder = run.heatmap_folder(slide.slide_id)
    threshold = float(row["tile_threshold"])
    is_new = _write_overlays(slide, row, scores, grid, overlay, folder, expected)
    geojson = folder / "tiles.geojson"
    if config.geojson and geojson_fingerprint(geojson) != expected:
        with open_slide(slide.path, id=slide.slide_id, mpp=grid.mpp) as opened:
            write_geojson(
                geojson, grid, scores.probability, scores.classes,
                fingerprint=expected, threshold=threshold, shown_from_px=opened.shown_from_px,
            )  # fmt: skip
        is_new = True
    return DONE if is_new else KEPT


def _write_overlays(
    slide: CohortSlide, row: dict[str, str], scores: Scores, grid: TileGrid, overlay: OverlayConfig,
    folder: Path, expected: str,
) -> bool:  # fmt: skip
    """One picture for each class that a tile can show evidence of; return whether any was written."""
    positive = list(enumerate(scores.classes))[1:]
    is_new = False
    for number, name in positive:
        path = folder / ("overlay.png" if len(positive) == 1 else f"overlay-{number}.png")
        if overlay_fingerprint(path) == expected:
            continue
        legend = Legend(
            class_name=name,
            threshold=float(row["tile_threshold"]),
            prediction=_slide_prediction(row, name),
        )
        with open_slide(slide.path, id=slide.slide_id, mpp=grid.mpp) as opened:
            painted = paint(grid, scores.probability[:, number])
            write_overlay(
                path, opened, painted, legend,
                fingerprint=expected, tissue_polygons=grid.tissue_polygons, config=overlay,
            )  # fmt: skip
        is_new = True
    return is_new


def _slide_prediction(row: dict[str, str], painted: str) -> tuple[str, float]:
    """What is called, and how likely that is; where classes do not exclude each other, of the painted."""
    called = row["prediction"]
    if SEPARATOR not in row["threshold"]:
        return called, float(row[f"p({called})"])
    probability = float(row[f"p({painted})"])
    return (painted, probability) if painted in names_in(called) else (f"not {painted}", 1 - probability)
