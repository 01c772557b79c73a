"""The report's figures of tiles against masks and drawn regions of slides whose tumour is known."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, jaccard_score, roc_auc_score

from mil import Cohort, Run, Scores, evaluate, load_truth, report, save_scores, tile, tile_table
from mil.report.froc import SlideDetections
from mil.report.truth import SlideTruth, TileTruths, detect
from mil.truth_masks import load_truth_mask, positive_tiles
from tiling import ConfigError, GridConfig, TissueConfig, load_grid, write_slide

THRESHOLD = 0.6


@pytest.fixture(scope="module")
def run(phantom, tmp_path_factory) -> Run:
    """Two slides, the second without tumour, whose scores are noisy truth; masks and regions beside it."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "slides").mkdir()
    for name in ("with", "without"):
        (folder / "slides" / f"{name}.svs").symlink_to(phantom.path)
    run = Run.create(folder / "run")
    table = folder / "slides.csv"
    table.write_text("slide,label,patient\nwith,tumour,p1\nwithout,normal,p2\n")
    tile(Cohort.from_folder(folder / "slides", table), run, GridConfig(tile_px=64), TissueConfig())
    masks = {"with": phantom.tumour, "without": np.zeros_like(phantom.tumour)}
    (folder / "truth").mkdir()
    for name, mask in masks.items():
        cv2.imwrite(str(folder / "truth" / f"{name}.png"), mask.astype(np.uint8) * 255)
        score(run, name, folder / "truth")
    (folder / "regions").mkdir()
    (folder / "regions" / "with.geojson").write_text(json.dumps(outlined(phantom.tumour)))
    rows = [("with", "tumour", 0.1, 0.9, "tumour"), ("without", "normal", 0.7, 0.3, "normal")]
    frame = pd.DataFrame(rows, columns=["slide_id", "label", "p(normal)", "p(tumour)", "prediction"])
    frame["uncalibrated(normal)"], frame["uncalibrated(tumour)"] = frame["p(normal)"], frame["p(tumour)"]
    run.write_table("predictions.csv", frame.assign(
        set="normal|tumour", threshold="0.5", tile_threshold=str(THRESHOLD), fold="0", flags=""))  # fmt: skip
    return run


def score(run: Run, name: str, truth: Path) -> None:
    grid = load_grid(run.grid_path(name))
    rng = np.random.default_rng(len(name))
    p = np.clip(
        0.5 * positive_tiles(grid, load_truth_mask(truth / f"{name}.png")) + rng.random(len(grid)) * 0.6, 0, 1
    )
    p[3] = np.nan  # unread
    both = np.stack([1 - p, p], axis=1).astype(np.float32)
    scores = Scores(name, ("normal", "tumour"), both, np.zeros(len(grid), np.int16), "mix", "f")
    save_scores(scores, grid, run.scores_path(name), model_fingerprint="m")


def outlined(mask: np.ndarray) -> dict:
    """The outlines of a mask as QuPath exports them."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    rings = [c[:, 0].tolist() for c in outlines if len(c) > 3]
    features = [
        {
            "type": "Feature",
            "properties": {"objectType": "annotation", "classification": {"name": "tumour"}},
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        }
        for ring in rings
    ]
    return {"type": "FeatureCollection", "features": features}


def test_figures_of_tiles_are_scikit_learns_and_those_of_evaluate(run):
    truths = load_truth(run, run.root.parent / "truth")
    told = tile_table(truths).set_index("figure")
    truth = np.concatenate([s.is_positive for s in truths.slides])
    p = np.concatenate([s.score for s in truths.slides])
    figures = evaluate(run, run.root.parent / "truth").figures
    assert told.value["tile AUC, all slides"] == pytest.approx(roc_auc_score(truth, p))
    assert told.value["tile AUC, all slides"] == pytest.approx(figures["patch_auc"])
    assert told.value["tile AUC, positive slides"] == pytest.approx(figures["patch_auc_in_positive"])
    assert told.value["tile average precision, positive slides"] == pytest.approx(
        figures["patch_ap_in_positive"]
    )
    assert told.value["tile average precision, all slides"] == pytest.approx(
        average_precision_score(truth, p)
    )
    assert told.value["Dice"] == pytest.approx(figures["dice"])
    assert told.value["intersection over union"] == pytest.approx(jaccard_score(truth, p >= THRESHOLD))
    assert told.n["tile AUC, all slides"] == figures["tiles"] == len(p)


def test_drawn_regions_say_what_a_mask_says(run, phantom):
    by_mask = load_truth(run, run.root.parent / "truth")
    drawn = load_truth(run, annotations=run.root.parent / "regions")  # "without" is negative by its label
    assert [s.slide_id for s in drawn.slides] == ["with", "without"]
    assert drawn.left_out == {}
    for a, b in zip(by_mask.slides, drawn.slides, strict=True):
        assert (a.is_positive == b.is_positive).mean() > 0.98  # an outline goes through the middle of pixels
        assert len(a.detections.lesions) == len(b.detections.lesions)


def test_a_positive_slide_without_a_file_is_left_out_and_told(run, tmp_path):
    shutil.copy(run.root.parent / "truth" / "without.png", tmp_path)
    truths = load_truth(run, tmp_path)
    assert [s.slide_id for s in truths.slides] == ["without"]
    assert "no file says where it is positive" in truths.left_out["with"]
    (tmp_path / "with.geojson").write_text("{")
    assert set(load_truth(run, annotations=tmp_path).left_out) == {"with"}
    assert tile_table(truths).value[:4].isna().all()


def test_a_page_with_truth_shows_froc_and_tiles_and_what_is_left_out(run, tmp_path):
    told = report(run, truth=run.root.parent / "truth")
    page = told.page.read_text()
    assert "false positives a slide" in page
    assert "pointing game" in page
    assert told.tables["froc"].sensitivity.iloc[-1] > 0
    shutil.copy(run.root.parent / "truth" / "without.png", tmp_path)
    assert "left out of the figures of tiles: 1." in report(run, truth=tmp_path).page.read_text()


@pytest.mark.parametrize(("what", "suffix"), [("truth", ".png"), ("annotations", ".geojson")])
def test_truth_of_none_of_the_slides_is_refused(run, tmp_path, what, suffix):
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        report(run, **{what: tmp_path / "nowhere"})
    (tmp_path / f"other{suffix}").touch()
    with pytest.raises(ConfigError, match=f"no {suffix} file for any of the 2 predicted slides") as refused:
        report(run, **{what: tmp_path})
    assert f"with{suffix}" in refused.value.hint


def test_a_table_of_which_nothing_is_asked_is_refused(run):
    with pytest.raises(ConfigError, match=r"slides\.csv: no column of it is asked for.*--by"):
        report(run, table=run.root.parent / "slides.csv")


def test_detections_hit_what_their_tile_touches():
    """A slide of 10 x 10 tiles of 100 px, cells of 50; lesions in two corners, one too small for a tile."""
    y, x = np.divmod(np.arange(100), 10)
    coords = np.stack([x, y], axis=1) * 100
    areas = np.zeros((20, 20), bool)
    areas[0:4, 0:4], areas[19, 19] = True, True
    areas[4, 4] = True  # touches the first by a corner
    score = np.zeros(100)
    score[[0, 99, 50, 22]] = 0.9, 0.8, 0.7, 0.6
    found = detect(coords, 100.0, score, areas, 50.0, "p")
    assert found.lesions.tolist() == [0.9, 0.8]
    assert found.false.tolist() == [0.7]  # tile 22 holds the corner; the empty plateau touches hotter tiles
    beyond = detect(coords + 1, 100.0, np.eye(100)[12], areas, 50.0, "p")  # one tile away from both
    assert beyond.lesions.tolist() == [-np.inf, -np.inf]
    assert beyond.false.tolist() == [1]


def test_an_odd_resolution_and_an_edge_slide_have_cells_for_all_of_it(tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    pixels = np.full((707, 1013, 3), (200, 100, 160), np.uint8)
    pixels[::2, ::3] -= 40
    write_slide(folder / "odd.svs", pixels, mpp=0.2628)
    table = tmp_path / "slides.csv"
    table.write_text("slide,label\nodd,tumour\n")
    run = Run.create(tmp_path / "run")
    tile(
        Cohort.from_folder(folder, table),
        run,
        GridConfig(tile_px=51, tile_mpp=0.5, min_tissue=0),
        TissueConfig(),
    )
    mask = np.zeros((707, 1013), np.uint8)
    mask[-200:, -300:] = 255
    (tmp_path / "truth").mkdir()
    cv2.imwrite(str(tmp_path / "truth" / "odd.png"), mask)
    score(run, "odd", tmp_path / "truth")
    row = {"slide_id": ["odd"], "label": ["tumour"], "tile_threshold": ["0.5"]}
    run.write_table("predictions.csv", pd.DataFrame(row))
    slide = load_truth(run, tmp_path / "truth").slides[0]
    assert len(slide.detections.lesions) == 1
    assert np.isfinite(slide.detections.lesions[0])


def test_drawn_classes_have_figures_each_and_masks_count_for_all_of_them_alone():
    rng = np.random.default_rng(0)
    none = SlideDetections("p", np.zeros(0), np.zeros(0))
    slides = []
    for name, width in (("drawn", 2), ("mask", 1), ("negative", 1)):
        by_class = rng.random((40, 2)) / 2
        truth = rng.random((40, width)) < (0 if name == "negative" else 0.3)
        slides.append(SlideTruth(name, name, by_class.sum(axis=1), by_class, truth, 0.5, none))
    told = tile_table(TileTruths(tuple(slides), ("a", "b"))).set_index("figure")
    drawn, _, negative = slides
    for c, name in enumerate("ab"):
        p = np.concatenate([drawn.by_class[:, c], negative.by_class[:, c]])
        truth = np.concatenate([drawn.truth[:, c], np.zeros(40, bool)])
        assert told.value[f"tile AUC, {name}, all slides"] == pytest.approx(roc_auc_score(truth, p))
    assert told.n["tile AUC, all slides"] == 120


def test_heatmaps_without_any_mistake_have_no_interval_though_levels_are_cut():
    none, slides = SlideDetections("p", np.zeros(0), np.zeros(0)), []
    for k in range(6):
        score = np.linspace(0, 1, 601)[:, None] ** (1 + k / 10)
        truth = score > 0.5003
        slides.append(SlideTruth(f"s{k}", f"s{k}", score[:, 0], score, truth, 0.5, none))
    told = tile_table(TileTruths(tuple(slides), ("a",))).set_index("figure")
    ranked = told.loc[["tile AUC, all slides", "tile average precision, all slides"]]
    assert ranked.value.tolist() == pytest.approx([1, 1])
    assert ranked[["low", "high"]].isna().all(axis=None)
