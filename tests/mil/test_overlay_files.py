"""Overlays beside predictions: which of them the report may show."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mil import Cohort, HeatmapConfig, Run, heatmap, report, tile
from mil.overlay_files import overlays_of
from mil.predictions import rows_by_slide
from mil.report.contents import gather
from mil.scores import Scores, save_scores
from tiling import GridConfig, OverlayConfig, TissueConfig, load_grid

NAMES = ("normal", "tumour")
OVERLAY, PICTURES = OverlayConfig(longest_px=300), HeatmapConfig(format=("png",))


def predict(run: Run, seed: int) -> None:
    """Scores as of a model of that seed, by which each slide is called wrongly."""
    slides = run.cohort().slides
    for slide in slides:
        grid = load_grid(run.grid_path(slide.slide_id))
        p = np.random.default_rng(seed).dirichlet([1, 1], len(grid)).astype(np.float32)
        scores = Scores(slide.slide_id, NAMES, p, np.zeros(len(grid), np.int16), "made up", f"seed {seed}")
        save_scores(scores, grid, run.scores_path(slide.slide_id), model_fingerprint="0")
    rows = {"slide_id": [s.slide_id for s in slides], "label": [s.label for s in slides]}
    rows |= {f"{what}({name})": "0.5" for what in ("p", "uncalibrated") for name in NAMES}
    rows |= {"prediction": [NAMES[s.label == NAMES[0]] for s in slides], "set": "", "threshold": "0.5"}
    run.write_table("predictions.csv", pd.DataFrame(rows).assign(tile_threshold="0.4", fold="0"))


@pytest.fixture
def painted(phantom_cohort, tmp_path) -> Run:
    cohort, run = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv"), Run(tmp_path)
    tile(Cohort(cohort.slides[:2]), run, GridConfig(tile_px=224), TissueConfig())
    predict(run, 0)
    heatmap(run, OVERLAY, PICTURES)
    return run


def pictures(run: Run) -> int:
    return report(run).page.read_text(encoding="utf-8").count("<img")


def test_the_report_leaves_out_overlays_of_earlier_predictions(painted):
    ids = [slide.slide_id for slide in painted.cohort().slides]
    assert pictures(painted) == 2
    assert "earlier predictions" not in " ".join(gather(painted).limits)
    predict(painted, 1)
    assert pictures(painted) == 0
    assert "overlays are of earlier predictions and left out: 2" in " ".join(gather(painted).limits)
    heatmap(painted, OVERLAY, PICTURES, only=(ids[0],))
    assert pictures(painted) == 1
    heatmap(painted, OverlayConfig(longest_px=400), PICTURES, only=(ids[1],))  # however it is painted
    assert pictures(painted) == 2


@pytest.mark.parametrize("column", ["prediction", "tile_threshold"])
def test_what_was_called_is_shown_too(painted, column):
    for slide_id, row in rows_by_slide(painted).items():
        of_now, earlier = overlays_of(painted, slide_id, row)
        assert ([path.name for path in of_now], earlier) == (["overlay.png"], [])
        assert overlays_of(painted, slide_id, row | {column: "0.3"}) == ([], of_now)


def test_a_picture_of_ones_own_stays(painted):
    slide_id, row = next(iter(rows_by_slide(painted).items()))
    own = painted.heatmap_folder(slide_id) / "overlay-of-mine.png"
    Image.new("RGB", (8, 8)).save(own)
    predict(painted, 1)
    assert [path.name for path in overlays_of(painted, slide_id, row)[0]] == [own.name]


@pytest.mark.parametrize("called", ["Tumour", ""])
def test_a_prediction_of_no_class_is_told_as_the_edit_that_it_is(painted, called):
    rows = painted.read_table("predictions.csv")
    painted.write_table("predictions.csv", rows.assign(prediction=[called, *rows["prediction"][1:]]))
    (failure,) = heatmap(painted, OVERLAY, PICTURES).failures
    assert f"predictions.csv calls it {called!r}" in failure.error
    assert "write the class as the columns do" in failure.hint
