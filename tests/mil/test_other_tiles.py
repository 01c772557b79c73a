"""What was made of other tiles than a run has now is refused, whoever reads it."""

from pathlib import Path

import pytest

from features import EncoderConfig
from mil import (
    Cohort,
    ExtractConfig,
    HeatmapConfig,
    Run,
    TrainConfig,
    evaluate,
    export_run,
    extract,
    heatmap,
    pack,
    tile,
    train,
)
from tiling import FormatError, GridConfig, OverlayConfig, TissueConfig

OTHERS = {
    "other places": GridConfig(tile_px=160, max_tiles=9, tile_seed=1),
    "the same places, finer": GridConfig(tile_px=320, tile_mpp=0.25, max_tiles=9, allow_upsampling=True),
}


@pytest.fixture(scope="module", params=list(OTHERS))
def run(request, phantom_cohort, tmp_path_factory) -> Run:
    """A trained run whose slides were tiled anew since, and made ready by another encoder."""
    run = Run.create(tmp_path_factory.mktemp("run"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=160, max_tiles=9), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    train(run, "stain-stats", TrainConfig(learner="mix", folds=3), {"epochs": "2"})
    tile(cohort, run, OTHERS[request.param], TissueConfig())
    run.update_slides({s.slide_id: {"status": "extracted"} for s in cohort.slides})
    return run


def test_bags_of_other_tiles_are_refused(run: Run, tmp_path: Path):
    with pytest.raises(FormatError, match="its features are of other tiles than its grid has"):
        train(run, "stain-stats", TrainConfig(learner="mix", folds=3), {"epochs": "2"})
    with pytest.raises(FormatError, match="its features are of other tiles than its grid has"):
        pack(run, "stain-stats", tmp_path / "store.zarr")
    exported = export_run(run, tmp_path / "theirs", "trident", encoder="stain-stats")
    assert len(exported.failures) == len(exported.statuses)


def test_scores_of_other_tiles_are_refused(run: Run, phantom_cohort: Path):
    painted = heatmap(run, OverlayConfig(longest_px=300), HeatmapConfig())
    assert {f.error for f in painted.failures} == {"its scores are of other tiles than its grid has"}
    assert len(painted.failures) == len(painted.statuses)
    with pytest.raises(FormatError, match="its scores are of other tiles than its grid has"):
        evaluate(run, phantom_cohort / "truth")
