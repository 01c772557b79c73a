"""The whole way on drawn slides whose tumour is known, by the command line as a user calls it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from features import DEFAULT_ENCODER, find_encoder
from mil import Run, load_scores
from tiling import load_grid, stored_fingerprint, write_slide

STAIN_STATS = ("--encoder", "stain-stats")


def slidebag(*args: object, code: int = 0, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mil.cli", *map(str, args)],
        capture_output=True, text=True, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.returncode == code, f"{args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def stamps(folder: Path, pattern: str) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob(pattern))}


def run_args(cohort: Path, run: Path, *more: object) -> tuple[object, ...]:
    return (
        "run", cohort / "slides", run, "--table", cohort / "slides.csv", "--learner", "mix", "--folds", 3,
        "--set", "epochs=15", "--tile-px", 112, "--longest-px", 500, *STAIN_STATS, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(phantom_cohort, tmp_path_factory):
    """A finished run on the drawn cohort, and what the command said."""
    run = tmp_path_factory.mktemp("run")
    said = slidebag(*run_args(phantom_cohort, run, "--truth", phantom_cohort / "truth"))
    return run, said


def test_the_run_folder_holds_what_the_documents_promise(done, phantom_cohort):
    run, _ = done
    ids = pd.read_csv(phantom_cohort / "slides.csv").slide.tolist()
    for name in ("run.json", "slides.csv", "predictions.csv", "evaluation.json"):
        assert (run / name).is_file(), name
    for i in ids:
        stem = Path(i).stem
        assert (run / "tiles" / f"{stem}.h5").is_file()
        assert (run / "features" / "stain-stats" / f"{stem}.h5").is_file()
        assert (run / "scores" / f"{stem}.h5").is_file()
        assert (run / "heatmaps" / stem / "overlay.png").is_file()
        assert (run / "heatmaps" / stem / "tiles.geojson").is_file()
    model = run / "models" / "mix"
    for name in ("config.json", "weights.safetensors", "recipe.json", "metrics.csv", "splits.csv"):
        assert (model / name).is_file(), name
    assert not (run / "failures.csv").exists()
    assert not list(run.rglob("*.partial"))


@pytest.fixture(scope="module")
def by_default(phantom_cohort, tmp_path_factory):
    """A finished run of the tiles and features that are made where nothing is said of them."""
    run = tmp_path_factory.mktemp("default")
    said = slidebag(
        "run", phantom_cohort / "slides", run, "--table", phantom_cohort / "slides.csv",
        "--learner", "mix", "--folds", 3, "--set", "epochs=2", "--format", "png", "--longest-px", 300,
    )  # fmt: skip
    return run, said


def test_a_run_without_options_takes_the_default_encoder_and_nothing_fails(by_default):
    run, said = by_default
    assert f"extract: {DEFAULT_ENCODER} in " in said
    assert not (run / "failures.csv").exists()
    bags = sorted((run / "features" / DEFAULT_ENCODER).glob("*.h5"))
    assert len(bags) == 8
    with h5py.File(bags[0]) as bag:
        assert bag["features"].shape[1] == find_encoder(DEFAULT_ENCODER).card.dim
        assert len(np.unique(bag["features"][:], axis=0)) == len(bag["features"])
    recipe = json.loads((run / "models" / "mix" / "recipe.json").read_text())
    assert recipe["preparation"]["encoder"]["encoder"] == DEFAULT_ENCODER


@pytest.mark.slow
def test_each_verb_takes_the_default_encoder_and_predict_the_model_s(by_default, phantom_cohort, tmp_path):
    run = Path(shutil.copytree(by_default[0], tmp_path / "run"))
    assert "8 kept" in slidebag("extract", run)
    assert "(kept)" in slidebag("train", run, "--learner", "mix", "--folds", 3, "--set", "epochs=2")
    assert f"features/{DEFAULT_ENCODER}.zarr" in slidebag("pack", run)
    slide_id = Run(run).slides()["slide_id"][0]
    x, y = load_grid(Run(run).grid_path(slide_id)).coords[0]
    assert f"by {DEFAULT_ENCODER}" in slidebag("search", run, "--slide", slide_id, "--at", f"{x},{y}")
    slidebag(
        "predict", run / "models" / "mix", phantom_cohort / "slides" / f"{slide_id}.svs", tmp_path / "new"
    )
    name = f"features/{DEFAULT_ENCODER}/{slide_id}.h5"
    with h5py.File(run / name) as own, h5py.File(tmp_path / "new" / name) as again:
        assert own.attrs["encoder_fingerprint"] == again.attrs["encoder_fingerprint"]


def test_tiles_that_the_encoder_does_not_take_are_told_before_any_work(phantom_cohort, tmp_path):
    args = ("run", phantom_cohort / "slides", tmp_path / "run", "--table", phantom_cohort / "slides.csv")
    other = "dinov2-vits14"  # the default takes any; no weights are fetched before this is told
    said = slidebag(*args, "--folds", 3, "--tile-px", 225, "--encoder", other, code=2)
    assert f"patches are 225 px, encoder {other} wants a multiple of" in said
    assert "tile with --tile-px" in said
    assert not list((tmp_path / "run").rglob("*.h5"))


def test_every_slide_is_predicted_once_by_a_model_that_has_not_seen_it(done):
    run, _ = done
    predicted = pd.read_csv(run / "predictions.csv", dtype={"fold": str})
    splits = pd.read_csv(run / "models" / "mix" / "splits.csv", dtype={"fold": str})
    assert predicted.slide_id.is_unique
    for row in predicted.itertuples():
        mine = splits[(splits.slide_id == row.slide_id) & (splits.fold == row.fold)]
        assert mine.part.tolist() == ["test"]


def test_it_ends_with_a_report_and_says_where(done, phantom_cohort, tmp_path):
    run, said = done
    assert f"report: {run / 'report' / 'index.html'}" in said
    told = json.loads((run / "report" / "report.json").read_text())
    figures = json.loads((run / "evaluation.json").read_text())
    tiles = {row["figure"]: row["value"] for row in told["tables"]["tiles"]}
    assert tiles["tile AUC, all slides"] == pytest.approx(figures["patch_auc"])
    assert [s["step"] for s in told["facts"]["steps"]] == ["tile", "extract", "train", "heatmap"]
    assert all("--learner mix" in s["command"] for s in told["facts"]["steps"])
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    table = pd.read_csv(phantom_cohort / "slides.csv").assign(site=["north", "south"] * 4)
    table.to_csv(tmp_path / "sites.csv", index=False)
    slidebag("report", copy, "--by", "site", "--table", tmp_path / "sites.csv", "--compare", run)
    told = json.loads((copy / "report" / "report.json").read_text())
    assert [row["group"] for row in told["tables"]["by_1"]] == ["north", "south"]
    assert told["tables"]["compared"][0]["difference"] == 0
    assert "no table has a column 'scanner'" in slidebag("report", copy, "--by", "scanner", code=2)


def test_scores_are_probabilities_in_the_grids_order(done):
    run, _ = done
    for path in (run / "scores").glob("*.h5"):
        scores = load_scores(path)
        with h5py.File(run / "tiles" / path.name) as grid, h5py.File(path) as file:
            assert np.array_equal(file["coords"][:], grid["coords"][:])
            assert file.attrs["is_calibrated"] == np.False_  # a fold of 8 slides holds out too few
        assert scores.classes == ("normal", "tumour")
        assert np.allclose(scores.probability.sum(1), 1, atol=1e-5)


def test_the_known_tumour_is_found(done):
    run, _ = done
    figures = json.loads((run / "evaluation.json").read_text())
    assert figures["patch_auc"] > 0.85  # an uninformed learner has 0.5
    assert figures["tiles"] > 100


def test_the_final_model_is_calibrated_on_what_all_folds_held_out(done, phantom_cohort, tmp_path):
    model, new = done[0] / "models" / "mix", tmp_path / "new"
    told = json.loads((model / "calibration.json").read_text())
    assert told["held_out"] == [4, 4]
    assert min(told["tiles"]["slopes"]) > 0
    slidebag("predict", model, sorted((phantom_cohort / "slides").iterdir())[0], new)
    row = pd.read_csv(new / "predictions.csv").iloc[0]
    assert row["is_calibrated"]
    assert row["set"] == "normal|tumour"  # 8 slides are too few for a level of 0.9
    scores = load_scores(next((new / "scores").glob("*.h5")))
    raw = scores.calibration.undo(scores.probability)
    assert np.array_equal(np.argsort(raw[:, 1]), np.argsort(scores.probability[:, 1]))
    assert not np.allclose(raw, scores.probability)
    assert row["novelty"] < 1  # a training slide
    assert pd.isna(row["flags"])
    assert (scores.novelty > 1).mean() < 0.1


def test_the_same_command_twice_computes_nothing_again(done, phantom_cohort):
    run, _ = done
    before = (
        stamps(run, "*.h5") | stamps(run, "*.png") | stamps(run, "*.geojson") | stamps(run, "*.safetensors")
    )
    said = slidebag(*run_args(phantom_cohort, run, "--truth", phantom_cohort / "truth"))
    after = (
        stamps(run, "*.h5") | stamps(run, "*.png") | stamps(run, "*.geojson") | stamps(run, "*.safetensors")
    )
    assert before == after
    assert "(kept)" in said
    assert said.count("8 kept") == 3


def test_a_changed_option_recomputes_just_what_depends_on_it(done, phantom_cohort, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(done[0], run)
    before_grids, before_bags = stamps(run, "tiles/*.h5"), stamps(run, "features/**/*.h5")
    before_models, before_pictures = stamps(run, "*.safetensors"), stamps(run, "heatmaps/**/*.png")
    before_qc = stamps(run, "qc/*.png")
    slidebag(*run_args(phantom_cohort, run, "--opacity", 0.4))
    assert stamps(run, "tiles/*.h5") == before_grids
    assert stamps(run, "features/**/*.h5") == before_bags
    assert stamps(run, "*.safetensors") == before_models
    assert stamps(run, "qc/*.png") == before_qc
    assert all(stamps(run, "*.png")[k] != v for k, v in before_pictures.items())
    slidebag(*run_args(phantom_cohort, run, "--opacity", 0.4, "--seed", 1))
    assert stamps(run, "features/**/*.h5") == before_bags
    assert all(stamps(run, "*.safetensors")[k] != v for k, v in before_models.items())


def test_predict_reproduces_what_the_training_stored_for_slides_outside_its_cohort(phantom_cohort, tmp_path):
    table = pd.read_csv(phantom_cohort / "slides.csv")
    order = table.groupby("label").cumcount()
    table["split"] = order.map({0: "train", 1: "train", 2: "val", 3: "test"})
    table["patient"] = table.slide  # one slide each, so that the split cuts through no patient
    table.to_csv(tmp_path / "split.csv", index=False)
    run, new = tmp_path / "run", tmp_path / "new"
    slidebag(
        "run", phantom_cohort / "slides", run, "--table", tmp_path / "split.csv", "--learner", "mix",
        "--set", "epochs=15", "--tile-px", 112, "--format", "png", "--longest-px", 300, *STAIN_STATS,
    )  # fmt: skip
    outside = tmp_path / "outside"
    outside.mkdir()
    names = table[table.split == "test"].slide.map(lambda s: Path(s).stem).tolist()
    for name in names:
        shutil.copy2(phantom_cohort / "slides" / f"{name}.svs", outside)
    slidebag("predict", run / "models" / "mix", outside, new)
    stored = pd.read_csv(run / "predictions.csv", dtype=str).set_index("slide_id")
    found = pd.read_csv(new / "predictions.csv", dtype=str).set_index("slide_id")
    assert sorted(found.index) == sorted(names) == sorted(stored.index)
    for name in names:
        columns = ["p(normal)", "p(tumour)", "prediction", "threshold", "tile_threshold"]
        assert stored.loc[name, columns].tolist() == found.loc[name, columns].tolist()
        told, again = (load_scores(r / "scores" / f"{name}.h5") for r in (run, new))
        assert np.array_equal(told.probability, again.probability)


def test_without_a_test_part_run_refuses_and_train_makes_a_model_that_is_not_evaluated(
    phantom_cohort, tmp_path
):
    table, run = pd.read_csv(phantom_cohort / "slides.csv"), tmp_path / "run"
    table["split"] = table.groupby("label").cumcount().map({0: "train", 1: "train", 2: "val", 3: "val"})
    table["patient"] = table.slide
    table.to_csv(tmp_path / "split.csv", index=False)
    args = (phantom_cohort / "slides", run, "--table", tmp_path / "split.csv", "--tile-px", 112)
    said = slidebag("run", *args, code=2)
    assert "leaves 'test' empty" in said
    assert not run.exists()
    slidebag("tile", *args)
    slidebag("extract", run, *STAIN_STATS)
    said = slidebag("train", run, "--learner", "mean", "--set", "epochs=1", *STAIN_STATS)
    assert "nothing to evaluate" in said
    assert (run / "models" / "mean" / "recipe.json").is_file()


def equal_bags(first: Path, second: Path) -> bool:
    with h5py.File(first) as a, h5py.File(second) as b:
        return a.attrs["fingerprint"] == b.attrs["fingerprint"] and all(
            np.array_equal(a[name][:], b[name][:]) for name in ("features", "coords", "unreadable")
        )


def test_kill_9_in_the_middle_of_extract_leaves_whole_bags_and_a_rerun_completes_them(
    done, phantom_cohort, tmp_path
):
    run = tmp_path / "run"
    slidebag("tile", phantom_cohort / "slides", run, "--tile-px", 112)
    process = subprocess.Popen(
        [sys.executable, "-m", "mil.cli", "extract", str(run), *STAIN_STATS],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    bags = run / "features" / "stain-stats"
    deadline = time.monotonic() + 120
    while len(list(bags.glob("*.h5"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = stamps(bags, "phantom*.h5")
    assert 2 <= len(whole) < 8, "the kill came too early or too late to show anything"
    assert all(stored_fingerprint(bags / name) for name in whole)
    slidebag("extract", run, *STAIN_STATS)
    assert {k: v for k, v in stamps(bags, "phantom*.h5").items() if k in whole} == whole
    for path in (done[0] / "features" / "stain-stats").glob("*.h5"):
        assert equal_bags(path, bags / path.name)


@pytest.fixture
def odd_folder(phantom_cohort, tmp_path) -> Path:
    """A folder with a good slide, an empty one, a damaged one and one that states no resolution."""
    folder = tmp_path / "slides"
    folder.mkdir()
    good = next((phantom_cohort / "slides").glob("*.svs"))
    shutil.copy2(good, folder / "good.svs")
    white = np.full((600, 700, 3), 244, np.uint8)
    write_slide(folder / "empty.svs", white, mpp=0.5)
    write_slide(folder / "silent.svs", white, mpp=None)
    (folder / "damaged.svs").write_bytes(good.read_bytes()[:2000])
    return folder


def test_bad_slides_fail_alone_with_reason_and_way_out(odd_folder, tmp_path):
    run = tmp_path / "run"
    said = slidebag("tile", odd_folder, run, code=1)
    failed = pd.read_csv(run / "failures.csv").set_index("slide_id")
    assert sorted(failed.index) == ["damaged", "silent"]
    assert failed.hint.str.len().min() > 10
    assert "--mpp" in failed.loc["silent", "hint"]
    assert "damaged" in said
    slidebag("extract", run, *STAIN_STATS)
    slides = Run(run).slides().set_index("slide_id")
    assert slides.loc["good", "status"] == "extracted"
    assert slides.loc["empty", "status"] == "no tissue"
    with h5py.File(run / "features" / "stain-stats" / "empty.h5") as bag:
        assert bag["features"].shape == (0, 72)
    slidebag("tile", odd_folder, run, "--mpp", 0.5, code=1)
    assert pd.read_csv(run / "failures.csv").slide_id.tolist() == ["damaged"]


def test_predict_refuses_a_run_that_was_trained_in(done, phantom_cohort):
    run = done[0]
    before = stamps(run, "*.csv")
    said = slidebag("predict", run / "models" / "mix", phantom_cohort / "slides", run, code=2)
    assert "a training took place there" in said
    assert "name another run folder" in said
    assert stamps(run, "*.csv") == before


def test_predict_heeds_regions(done, phantom_cohort, tmp_path):
    name = Run(done[0]).slides()["slide_id"][0]
    mask = np.zeros((100, 120), np.uint8)
    mask[:, :60] = 255
    (tmp_path / "regions").mkdir()
    cv2.imwrite(str(tmp_path / "regions" / f"{name}.png"), mask)
    slide = phantom_cohort / "slides" / f"{name}.svs"
    args = ("predict", done[0] / "models" / "mix", slide, tmp_path / "new", "--regions")
    slidebag(*args, tmp_path / "regions")
    with h5py.File(tmp_path / "new" / "scores" / f"{name}.h5") as file:
        assert 0 < file["coords"][:, 0].max() < 600  # the slide is 1,200 px wide
    said = slidebag(*args, tmp_path / "none", code=2)
    assert "no such folder" in said


def test_an_empty_slide_is_predicted_as_the_most_negative_with_a_flag(done, odd_folder, tmp_path):
    new = tmp_path / "new"
    slidebag("predict", done[0] / "models" / "mix", odd_folder, new, code=1)
    row = pd.read_csv(new / "predictions.csv").set_index("slide_id").loc["empty"]
    assert (row["p(normal)"], row["prediction"], row["flags"]) == (1.0, "normal", "no_tissue")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda t: t.drop(columns="label"), "no column 'label'"),
        (lambda t: t.assign(label="tumour"), "'tumour'"),
        (lambda t: pd.concat([t, t.head(1)]), "stands there twice"),
        (lambda t: t.groupby("label").head(2), "patients, 3 folds"),
    ],
)
def test_bad_tables_end_before_any_work_in_one_line(phantom_cohort, tmp_path, edit, told):
    table = tmp_path / "bad.csv"
    edit(pd.read_csv(phantom_cohort / "slides.csv")).to_csv(table, index=False)
    run = tmp_path / "run"
    said = slidebag("run", phantom_cohort / "slides", run, "--table", table, "--folds", 3, code=2)
    assert told in said
    assert "Traceback" not in said
    assert not list(run.rglob("*.h5"))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--learner", "nope"), "unknown learner 'nope'"),
        (("--set", "nonsense=1"), "has no option 'nonsense'"),
        (("--set", "epochs=many"), "option epochs is 'many'"),
        (("--truth", "nowhere"), "nowhere: no such folder"),
        (("--table", "nowhere.csv"), "nowhere.csv: no such file"),
    ],
)
def test_what_a_later_step_would_refuse_ends_before_a_folder_is_made(phantom_cohort, tmp_path, more, told):
    said = slidebag(*run_args(phantom_cohort, tmp_path / "run"), *more, code=2)
    assert told in said
    assert not (tmp_path / "run").exists()


def test_an_annotated_class_that_is_misspelt_is_told_before_any_work(phantom_cohort, tmp_path):
    slide = next(iter(sorted((phantom_cohort / "slides").iterdir())))
    ring = [[0, 0], [500, 0], [500, 500], [0, 500], [0, 0]]
    region = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "tumor"}},
    }
    (tmp_path / f"{slide.stem}.geojson").write_text(json.dumps([region]))
    more = ("--annotations", tmp_path)
    said = slidebag(*run_args(phantom_cohort, tmp_path / "run"), *more, code=2)
    assert "classified as 'tumor', wanted one of normal, tumour" in said
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_cannot_be_written_is_refused(phantom_cohort, tmp_path):
    (tmp_path / "file").write_text("")
    said = slidebag("tile", phantom_cohort / "slides", tmp_path / "file", code=2)
    assert "cannot be written to" in said


def test_bags_of_another_dim_or_a_newer_version_are_refused(done, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(done[0], run)
    bag = next((run / "features" / "stain-stats").glob("*.h5"))
    with h5py.File(bag, "a") as file:
        file.attrs["format_version"] = 99
    said = slidebag("train", run, "--learner", "mix", "--folds", 3, *STAIN_STATS, code=2)
    assert "format version 99" in said
    with h5py.File(bag, "a") as file:
        file.attrs["format_version"] = 1
        narrow = file["features"][:, :10]
        del file["features"]
        file["features"] = narrow
    more = ("--set", "epochs=1", "--seed", 5, *STAIN_STATS)
    said = slidebag("train", run, "--learner", "mix", "--folds", 3, *more, code=2)
    assert "wanted 72" in said or "wanted 10" in said


def test_options_may_come_from_a_file_and_flags_override(phantom_cohort, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text("tile_px = 100\ntile_mpp = 1.0\n")
    said = slidebag(
        "tile",
        phantom_cohort / "slides",
        tmp_path / "run",
        "--config",
        config,
        "--tile-px",
        50,
        "--print-config",
    )
    told = json.loads(said)
    assert (told["tile_px"], told["tile_mpp"], told["overlap_px"]) == (50, 1.0, 0)
    config.write_text("tile_pixels = 100\n")
    said = slidebag("tile", phantom_cohort / "slides", tmp_path / "run", "--config", config, code=2)
    assert "unknown option 'tile_pixels'" in said


@pytest.mark.slow
def test_a_model_keeps_its_stain_and_predict_treats_new_slides_alike(phantom_cohort, tmp_path):
    run, new = tmp_path / "run", tmp_path / "new"
    slidebag(
        "tile", phantom_cohort / "slides", run, "--table", phantom_cohort / "slides.csv", "--tile-px", 112,
        "--max-tiles", 12,
    )  # fmt: skip
    slidebag("extract", run, "--stain", "macenko", *STAIN_STATS)
    slidebag("train", run, "--learner", "mix", "--folds", 3, "--set", "epochs=2", *STAIN_STATS)
    recipe = json.loads((run / "models" / "mix" / "recipe.json").read_text())
    assert recipe["preparation"]["encoder"]["stain"] == "macenko"
    one = sorted((phantom_cohort / "slides").iterdir())[0]
    (tmp_path / "outside").mkdir()
    shutil.copy2(one, tmp_path / "outside")
    slidebag("predict", run / "models" / "mix", tmp_path / "outside", new)
    name = f"features/stain-stats/{one.stem}.h5"
    assert equal_bags(run / name, new / name)
    with h5py.File(new / name) as file:
        assert len(json.loads(file.attrs["stain_numbers"])) == 12
