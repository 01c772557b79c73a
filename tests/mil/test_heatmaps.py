"""Heatmaps of a run whose scores are made up, so that nothing has to be learned."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from shapely.geometry import shape

from mil import Cohort, HeatmapConfig, Run, heatmap, tile
from mil.scores import Scores, save_scores
from tiling import ConfigError, FormatError, GridConfig, OverlayConfig, TissueConfig, load_grid

OVERLAY = OverlayConfig(longest_px=300)
THRESHOLD = 0.45


@pytest.fixture(scope="module")
def tiled(phantom_cohort, tmp_path_factory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("run"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(Cohort(cohort.slides[:2]), run, GridConfig(tile_px=112), TissueConfig())
    return run


@pytest.fixture
def scored(tiled):
    """Score the run's slides with classes, and return it and the first slide's id."""

    def score(*classes):
        shutil.rmtree(tiled.root / "heatmaps", ignore_errors=True)
        rng = np.random.default_rng(0)
        rows = []
        for slide in tiled.cohort().slides:
            grid = load_grid(tiled.grid_path(slide.slide_id))
            probability = rng.dirichlet(np.ones(len(classes)), len(grid)).astype(np.float32)
            probability[0] = np.nan  # was not read
            prototype = np.zeros(len(grid), np.int16)
            scores = Scores(slide.slide_id, classes, probability, prototype, "made up", f"made up {classes}")
            save_scores(scores, grid, tiled.scores_path(slide.slide_id), model_fingerprint="0")
            rows.append(
                {"slide_id": slide.slide_id, "label": "", **{f"p({name})": "0.5" for name in classes},
                 "prediction": classes[-1], "threshold": "0.5", "tile_threshold": str(THRESHOLD)}
            )  # fmt: skip
        tiled.write_table("predictions.csv", pd.DataFrame(rows))
        return tiled, rows[0]["slide_id"]

    return score


def stamps(run):
    return {p: p.stat().st_mtime_ns for p in (run.root / "heatmaps").rglob("*") if p.is_file()}


def paint_run(run, **options):
    outcome = heatmap(run, OVERLAY, HeatmapConfig(**options))
    assert outcome.failures == ()
    return outcome


def test_the_usual_formats_are_written_and_kept_until_something_changes(scored):
    run, slide_id = scored("normal", "tumour")
    assert paint_run(run).counts == {"done": 2}
    names = {p.name for p in run.heatmap_folder(slide_id).iterdir()}
    assert names == {
        "overlay.png", "tiles.geojson", "regions.geojson", "regions.csv", "heatmap.ome.tiff",
        "top_tiles.png", "top_tiles.csv",
    }  # fmt: skip
    before = stamps(run)
    assert paint_run(run).counts == {"kept": 2}
    assert stamps(run) == before
    (run.heatmap_folder(slide_id) / "regions.csv").unlink()
    assert paint_run(run).counts == {"done": 1, "kept": 1}
    assert paint_run(run, smooth_um=60.0).counts == {"done": 2}
    assert all(after != before[path] for path, after in stamps(run).items())


def test_kept_heatmaps_need_no_slide(scored, monkeypatch):
    run, _ = scored("normal", "tumour")
    paint_run(run)
    monkeypatch.setattr("mil.heatmap_files.open_slide", None)
    assert paint_run(run).counts == {"kept": 2}


def test_scores_are_not_painted_over_another_file(scored, tmp_path):
    tiled, _ = scored("normal", "tumour")
    run = Run(shutil.copytree(tiled.root, tmp_path / "run"))
    first, second = run.cohort().slides
    run.update_slides({first.slide_id: {"path": second.path}})
    outcome = heatmap(run, OVERLAY, HeatmapConfig())
    assert outcome.counts == {"done": 1, "failed": 1}
    (failure,) = outcome.failures
    assert failure.slide_id == first.slide_id
    assert "is not the file that was tiled" in failure.error
    assert not list(run.heatmap_folder(first.slide_id).glob("*.png"))


def test_all_formats_tell_the_same(scored):
    run, slide_id = scored("normal", "in situ", "invasive")
    paint_run(run)
    folder, grid = run.heatmap_folder(slide_id), load_grid(run.grid_path(slide_id))
    tiles = json.loads((folder / "tiles.geojson").read_text())["features"]
    hot = [t for t in tiles if t["properties"]["classification"]["name"] in ("in situ", "invasive")]
    regions = json.loads((folder / "regions.geojson").read_text())
    assert regions["threshold is of"] == "p(in situ) + p(invasive)"
    with (folder / "regions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["n_tiles"]) for row in rows) == len(hot)
    assert len(regions["features"]) == len(rows)
    one = hot[0]
    at = shape(one["geometry"]).centroid
    inside = [f for f in regions["features"] if shape(f["geometry"]).contains(at)]
    assert [f["properties"]["classification"] for f in inside] == [one["properties"]["classification"]]
    with tifffile.TiffFile(folder / "heatmap.ome.tiff") as file:
        channels = file.asarray()
        assert 'Name="in situ"' in file.ome_metadata
    width, height = grid.size_level0_px
    column, row = int(at.x / width * channels.shape[2]), int(at.y / height * channels.shape[1])
    measured = one["properties"]["measurements"]
    assert channels[:, row, column].tolist() == pytest.approx(
        [measured["p(in situ)"], measured["p(invasive)"]], abs=1e-5
    )
    pictures = {"overlay-1.png", "overlay-2.png", "top_tiles-1.png", "top_tiles-2.png"}
    assert {p.name for p in folder.glob("*.png")} == pictures


def test_no_picture_stays_of_classes_that_are_no_more(scored):
    run, slide_id = scored("normal", "in situ", "invasive")
    paint_run(run, format=("png",))
    folder = run.heatmap_folder(slide_id)
    (folder / "overlay.png").touch()
    (folder / "overlay-of-mine.png").touch()
    paint_run(run, format=("png",))
    assert {p.name for p in folder.iterdir()} == {"overlay-1.png", "overlay-2.png", "overlay-of-mine.png"}


def test_a_predicted_slide_that_is_not_among_the_slides_is_told(scored):
    run, _ = scored("normal", "tumour")
    rows = pd.read_csv(run.root / "predictions.csv", dtype=str, keep_default_na=False)
    rows.loc[0, "slide_id"] = "gone"
    run.write_table("predictions.csv", rows)
    outcome = heatmap(run, OVERLAY, HeatmapConfig(format=("geojson",)))
    assert outcome.counts == {"done": 1, "failed": 1}
    assert [(f.slide_id, f.error) for f in outcome.failures] == [
        ("gone", "has a prediction, but no row in slides.csv")
    ]


@pytest.mark.parametrize(
    ("change", "found"),
    [(lambda text: text.replace(",", ";"), "slide_id;label"), (lambda text: "junk\n", "are junk")],
)
def test_edited_predictions_are_no_reason_to_do_nothing(scored, change, found):
    run, _ = scored("normal", "tumour")
    path = run.root / "predictions.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(
        FormatError, match=f"has no column slide_id, .*prediction, .*{found}.*save it with commas"
    ):
        paint_run(run)


def test_what_is_asked_for_alone_is_written(scored):
    run, slide_id = scored("normal", "in situ", "invasive")
    assert paint_run(run, format=("blended",)).counts == {"done": 2}
    names = {p.name for p in run.heatmap_folder(slide_id).iterdir()}
    assert names == {"blended-1.ome.tiff", "blended-2.ome.tiff"}
    assert paint_run(run, format=("blended",)).counts == {"kept": 2}


def test_a_folder_is_kept_like_a_file_and_dicom_is_for_dicom(scored):
    run, slide_id = scored("normal", "tumour")
    assert paint_run(run, format=("ome-zarr",)).counts == {"done": 2}
    assert paint_run(run, format=("ome-zarr", "ome-zarr")).counts == {"kept": 2}
    assert (run.heatmap_folder(slide_id) / "heatmap.ome.zarr" / "zarr.json").is_file()
    outcome = heatmap(run, OVERLAY, HeatmapConfig(format=("dicom", "png")))
    assert {(f.error, f.hint) for f in outcome.failures} == {
        ("is no DICOM slide, so there is no DICOM segmentation of it", "leave out --format dicom")
    }
    assert (run.heatmap_folder(slide_id) / "overlay.png").is_file()


def test_smoothed_regions_keep_their_area(scored):
    run, slide_id = scored("normal", "tumour")
    areas = []
    for tolerance_um in (None, 0.0):
        paint_run(run, format=("regions",), smooth_um=40.0, region_tolerance_um=tolerance_um)
        areas.append(pd.read_csv(run.heatmap_folder(slide_id) / "regions.csv")["area_mm2"].sum())
    assert areas[0] == pytest.approx(areas[1], rel=0.01)
    assert areas[0] != areas[1]


def test_every_overlay_frames_where_the_classes_together_reach_the_threshold(scored):
    run, slide_id = scored("normal", "in situ", "invasive")
    paint_run(run, format=("png",))
    one, other = (np.asarray(Image.open(run.heatmap_folder(slide_id) / f"overlay-{k}.png")) for k in (1, 2))
    width = 300  # of the slide's picture; beside it the panels differ
    framed = [(picture[:, :width] == 0).all(axis=2) for picture in (one, other)]
    assert framed[0].any()
    np.testing.assert_array_equal(*framed)


def test_a_tolerance_that_a_slide_does_not_allow_fails_that_slide(scored):
    run, _ = scored("normal", "tumour")
    outcome = heatmap(run, OVERLAY, HeatmapConfig(region_tolerance_um=500.0))
    assert {f.step for f in outcome.failures} == {"heatmap"}
    assert "quarter of a tile" in outcome.failures[0].error


@pytest.mark.parametrize(
    "wrong",
    [{"format": ("gif",)}, {"format": ()}, {"smooth_um": -1.0}, {"smooth_um": 5001.0},
     {"region_tolerance_um": -1.0}, {"region_tolerance_um": float("nan")}],
)  # fmt: skip
def test_options_are_checked(wrong):
    with pytest.raises(ConfigError):
        HeatmapConfig(**wrong)
