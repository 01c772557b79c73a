"""The verb `heatmap`: what people look at and measure, from stored scores; no model is needed any more."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from tiling import ConfigError, OverlayConfig, load_grid

from .batch import DONE, KEPT, Outcome, each_slide
from .cohort import CohortSlide
from .heatmap_files import HeatmapConfig, Painting, write_formats
from .predictions import rows_by_slide
from .run_folder import Run
from .scores import load_scores
from .slide_table import CohortError


def heatmap(
    run: Run, overlay: OverlayConfig, config: HeatmapConfig, *, only: tuple[str, ...] = ()
) -> Outcome:
    """Write the heatmaps of all predicted slides of a run, or of those in `only`.

    One that is not in slides.csv any more is a failure.

    Raises:
        ConfigError: a slide in `only` has no prediction.
        FormatError: the run has no predictions, or columns of them are missing.
    """
    rows = rows_by_slide(run, "p(<class>)", "prediction", "threshold", "tile_threshold")
    missing = sorted(set(only) - rows.keys())
    if missing:
        raise ConfigError(f"slide {missing[0]!r} has no prediction in {run.root}", hint="see predictions.csv")
    known = {slide.slide_id: slide for slide in run.cohort().slides}
    chosen = [known.get(slide_id, CohortSlide(slide_id, Path())) for slide_id in sorted(set(only or rows))]

    def work(slide: CohortSlide) -> str:
        if slide.slide_id not in known:
            raise CohortError(
                "has a prediction, but no row in slides.csv",
                hint="tile the cohort that the predictions are of, or predict again",
            )
        grid = load_grid(run.grid_path(slide.slide_id))
        scores = load_scores(run.scores_path(slide.slide_id), grid=grid)
        folder, row = run.heatmap_folder(slide.slide_id), rows[slide.slide_id]
        with closing(Painting(folder, slide.path, row, grid, scores, overlay, config)) as painting:
            return DONE if write_formats(painting) else KEPT

    outcome = each_slide(run, "heatmap", chosen, work)
    told = {"overlay": asdict(overlay), "heatmap": asdict(config), "seconds": round(outcome.seconds, 2)}
    run.note("heatmap", {**told, "slides": outcome.counts})
    return outcome
