"""Pretraining by the command: killed and called again, and by several processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from pretrainings import AS_IT_IS, TINY, assert_same, options, weights

from features import PretrainConfig, pretrain


@pytest.mark.slow
def test_killed_and_called_again_by_the_command_it_ends_the_same(trained, tiles, tmp_path):
    done, _ = trained
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "mil.cli", "pretrain", str(tiles), str(tmp_path / "mine"), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (tmp_path / "mine" / "checkpoint.safetensors").is_file() and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "mine" / "card.json").exists()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert_same(tmp_path / "mine", done.folder)


# a training by two processes that ends after so many steps, as if it was killed; 0 is its end
STOPPED = """
import json, os, sys
from pathlib import Path
from features import PretrainConfig, pretrain
from features.pretraining import training
training.CHECKPOINT_EVERY_S = 0
def report(at):
    if at.step == int(sys.argv[3]):
        os._exit(9)
pretrain([Path(sys.argv[1])], Path(sys.argv[2]), PretrainConfig(**json.loads(sys.argv[4])), report=report)
"""


@pytest.mark.slow
def test_two_processes_stopped_within_an_epoch_end_the_same(tiles, tmp_path):
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    told = json.dumps(options(batch=8))

    def run(folder, n_steps):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*launcher, str(script), str(tiles), str(folder), str(n_steps), told]
        return subprocess.run(command, capture_output=True, timeout=300, check=False).returncode

    assert run(tmp_path / "one", 0) == 0
    assert run(tmp_path / "two", 5) != 0
    assert run(tmp_path / "two", 0) == 0
    assert_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "begins"),
    [({"koleo": 0.0}, False), ({"teacher": ("stain-stats",)}, False), ({"teacher": ("stain-stats",)}, True)],
)
def test_two_processes_learn_what_one_does(trained, tiles, tmp_path, own, begins):
    own = own | AS_IT_IS | {"init": str(trained[0].folder)} if begins else own
    told = options(**own, drop_path=0.0)  # each process leaves out paths, and spreads vectors, of its own
    flags = [
        f"--{name.replace('_', '-')}={each}"
        for name, value in told.items()
        for each in (value if isinstance(value, tuple) else (value,))
    ]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "mil.cli", "pretrain", str(tiles), str(tmp_path / "two"), *flags]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    pretrain([tiles], tmp_path / "one", PretrainConfig(**told))
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
