"""The verb `extract` by the command line: several encoders, slides that go away, being interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from features import EncoderCard, load_bag_configs, load_features
from features.architecture import Architecture
from features.encoder_folder import save_encoder_folder
from features.network import create_trunk
from mil import Cohort, Run, tile
from mil.cli import app
from tiling import GridConfig, SlidebagError, TissueConfig, stored_fingerprint

ENCODERS = ("stain-stats", "timm:test_vit")
STAIN_STATS = ("--encoder", "stain-stats")


def slidebag(*args, code=0):
    done = CliRunner().invoke(app, [str(a) for a in args])
    if isinstance(done.exception, SlidebagError):
        assert code == 2
        return str(done.exception)
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "a.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(2)
        save_file(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def tiled(phantom_cohort, tmp_path_factory):
    """Slides of our own, to be spoilt, and their grids of few tiles."""
    folder = tmp_path_factory.mktemp("tiled")
    (folder / "slides").mkdir()
    for path in sorted((phantom_cohort / "slides").glob("*.svs"))[:4]:
        shutil.copy2(path, folder / "slides")
    cohort = Cohort.from_folder(folder / "slides")
    tile(cohort, Run.create(folder / "run"), GridConfig(tile_px=160, max_tiles=9), TissueConfig())
    return folder


@pytest.fixture
def folder(tiled, tmp_path):
    shutil.copytree(tiled, tmp_path, dirs_exist_ok=True)
    table = pd.read_csv(tmp_path / "run" / "slides.csv", dtype=str, keep_default_na=False)
    table["path"] = [p.replace(str(tiled), str(tmp_path)) for p in table["path"]]
    table.to_csv(tmp_path / "run" / "slides.csv", index=False)
    return tmp_path


def bags(folder, encoder):
    found = sorted((folder / "run" / "features" / encoder.replace(":", "_")).glob("*.h5"))
    return {path.stem: load_features(path) for path in found}


def test_encoders_together_give_what_each_gives_alone(folder, weights, tmp_path):
    several = ("--encoder", ENCODERS[0], "--encoder", ENCODERS[1], "--weights", "", "--weights", weights)
    slidebag("extract", folder / "run", *several)
    together = {name: bags(folder, name) for name in ENCODERS}
    shutil.rmtree(folder / "run" / "features")
    for name, options in zip(ENCODERS, ((), ("--weights", weights)), strict=True):
        slidebag("extract", folder / "run", "--encoder", name, *options)
        alone = bags(folder, name)
        assert len(alone) == 4
        for slide_id, bag in alone.items():
            assert bag.fingerprint == together[name][slide_id].fingerprint
            # batches differ, and with them the order in which a sum is taken
            np.testing.assert_allclose(bag.features, together[name][slide_id].features, rtol=2e-2, atol=2e-3)
    said = slidebag("extract", folder / "run", *several)
    assert "4 kept" in said
    told = json.loads((folder / "run" / "run.json").read_text())["steps"]["extract"]
    assert [each["encoder"] for each in told["encoders"]] == list(ENCODERS)


def test_another_encoder_leaves_the_first_ones_bags_alone(folder, weights):
    slidebag("extract", folder / "run", "--encoder", ENCODERS[0])
    first = folder / "run" / "features" / ENCODERS[0]
    before = {p.name: p.stat().st_mtime_ns for p in first.glob("*.h5")}
    both = ("--encoder", ENCODERS[0], "--encoder", ENCODERS[1], "--weights", "", "--weights", weights)
    assert "4 done" in slidebag("extract", folder / "run", *both)
    assert {p.name: p.stat().st_mtime_ns for p in first.glob("*.h5")} == before
    assert len(bags(folder, ENCODERS[1])) == 4


def test_weights_that_belong_to_no_encoder_are_told(folder, weights):
    args = ("extract", folder / "run", "--encoder", "stain-stats", "--encoder", "timm:test_vit")
    assert "--encoder 2 times, --weights 1 times" in slidebag(*args, "--weights", weights, code=2)


def test_what_computes_is_said_and_stored(folder, weights):
    args = ("extract", folder / "run", "--encoder", ENCODERS[1], "--weights", weights)
    said = slidebag(*args, "--precision", "float32", "--engine", "torch")
    assert "timm:test_vit in float32 by torch on" in said
    path = next((folder / "run" / "features" / "timm_test_vit").glob("*.h5"))
    encoder, _ = load_bag_configs(path)
    assert (encoder.encoder, encoder.precision, encoder.weights) == (ENCODERS[1], "float32", None)
    assert encoder.engine == "auto"  # so that a model goes to machines that have another one


def test_tokens_of_encoders_that_have_none_are_refused(folder):
    said = slidebag("extract", folder / "run", *STAIN_STATS, "--token-side", 4, code=2)
    assert "stain-stats: gives no tokens" in said


def test_encoders_that_would_write_one_file_are_refused(folder):
    said = slidebag("extract", folder / "run", "--encoder", "stain-stats", "--encoder", "stain-stats", code=2)
    assert "two encoders of one pass keep their bags in features/stain-stats" in said


def test_bags_of_an_encoder_in_another_folder_of_the_same_name_are_not_written_over(folder, tmp_path):
    options = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 1, "img_size": 32}
    architecture = Architecture(timm_name="vit_tiny_patch16_224", options=options)
    card = EncoderCard(
        name="mine", dim=16, input_px=32, px_multiple=8, token_dim=16, pooling="class token", licence="ours",
        source="a test", resizes=True,
    )  # fmt: skip
    for place, seed in (("a", 1), ("b", 2)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            trunk = create_trunk(architecture, card)
        save_encoder_folder(tmp_path / place / "mine", trunk, card, architecture)
    slidebag("extract", folder / "run", "--encoder", tmp_path / "a" / "mine")
    kept = {path: path.read_bytes() for path in (folder / "run" / "features" / "mine").glob("*.h5")}
    assert kept
    said = slidebag("extract", folder / "run", "--encoder", tmp_path / "b" / "mine", code=2)
    assert f"holds bags of '{tmp_path / 'a' / 'mine'}', not of '{tmp_path / 'b' / 'mine'}'" in said
    assert kept == {path: path.read_bytes() for path in kept}
    shutil.move(tmp_path / "a", tmp_path / "c")  # the same encoder elsewhere
    slidebag("extract", folder / "run", "--encoder", tmp_path / "c" / "mine", "--dtype", "float32")


@pytest.mark.parametrize("what", ["gone", "replaced", "cut"])
def test_a_slide_that_is_not_what_was_tiled_fails_alone_and_a_rerun_completes_it(folder, what):
    path = sorted((folder / "slides").glob("*.svs"))[1]
    stamp, content = path.stat(), path.read_bytes()
    if what == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if what == "cut" else content)
    slidebag("extract", folder / "run", *STAIN_STATS, code=1)
    failed = pd.read_csv(folder / "run" / "failures.csv")
    assert failed["slide_id"].tolist() == [path.stem]
    assert failed["hint"].str.len().min() > 10
    before = {p: p.stat().st_mtime_ns for p in (folder / "run" / "features").rglob("*.h5")}
    assert len(before) == 3
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert "1 done" in slidebag("extract", folder / "run", *STAIN_STATS)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(bags(folder, "stain-stats")) == 4
    assert not (folder / "run" / "failures.csv").exists()


@pytest.mark.slow
def test_interrupted_from_the_keyboard_it_ends_at_once_and_leaves_whole_bags(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "mil.cli", "extract", str(folder / "run"), *STAIN_STATS, "--batch", "2"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    place = folder / "run" / "features" / "stain-stats"
    deadline = time.monotonic() + 120
    while not list(place.glob("*.h5")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "goes on where it was" in said
    whole = bags(folder, "stain-stats")
    assert 1 <= len(whole) < 4
    assert not list(place.glob(".*"))
    assert all(stored_fingerprint(path) for path in place.glob("*.h5"))
    slidebag("extract", folder / "run", *STAIN_STATS)
    assert len(bags(folder, "stain-stats")) == 4
