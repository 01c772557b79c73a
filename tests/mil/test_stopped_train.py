"""`train`, killed in the middle of a fit, goes on where it was when the same command is given again."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features import EncoderConfig
from mil import Cohort, ExtractConfig, Run, extract, tile
from tiling import GridConfig, TissueConfig

# a checkpoint after every epoch: the test's fits are short
COMMAND = "import mil.course; mil.course.EVERY_S = 0; from mil.cli import main; main()"
QUICK = (
    "members=1",
    "witness_epochs=3",
    "epochs=20",
    "steps_per_epoch=5",
    "instances_per_step=64",
    "queue=64",
)
KEPT = ("config.json", "weights.safetensors", "metrics.csv", "held_out.safetensors", "calibration.json")


@pytest.fixture
def runs(phantom_cohort, tmp_path) -> tuple[Path, Path]:
    """Two equal runs with features."""
    run = Run.create(tmp_path / "whole")
    tile(
        Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv"),
        run, GridConfig(tile_px=112), TissueConfig(),
    )  # fmt: skip
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    return run.root, Path(shutil.copytree(run.root, tmp_path / "killed"))


def start(run: Path, log: Path) -> subprocess.Popen:
    settings = [word for option in QUICK for word in ("--set", option)]
    args = [sys.executable, "-c", COMMAND, "train", str(run), "--folds", "3", *settings]
    args += ["--encoder", "stain-stats"]
    with log.open("w") as file:
        return subprocess.Popen(args, stdout=file, stderr=subprocess.STDOUT)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


@pytest.mark.slow
def test_a_training_that_kill_9_ended_goes_on_to_the_same_models(runs, tmp_path):
    whole, killed = runs
    assert start(whole, tmp_path / "log").wait() == 0
    fold = killed / "models" / "slidebag" / "folds" / "1"
    process = start(killed, tmp_path / "log")
    wait_for(fold / "checkpoint.safetensors", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (fold / "checkpoint.safetensors").is_file(), "the kill came too late to show anything"
    assert start(killed, tmp_path / "log").wait() == 0
    assert "fold 1, 4 slides" not in (tmp_path / "log").read_text()  # the first of its fits was whole
    for name in KEPT:
        files = sorted((whole / "models").rglob(name))
        assert files
        for file in files:
            assert file.read_bytes() == (killed / file.relative_to(whole)).read_bytes(), file
    assert (whole / "predictions.csv").read_bytes() == (killed / "predictions.csv").read_bytes()
    assert not list(killed.rglob("checkpoint*"))
    assert not list(killed.rglob("*.partial"))
