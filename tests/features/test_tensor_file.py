"""Files of tensors, and what becomes of them on a full disk."""

import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from features.checkpoint import Checkpoint
from features.tensor_file import write_tensors
from tiling import WriteError

# what a full disk does at any byte of a file
WORKER = """
import resource, signal, sys
from pathlib import Path
import torch
from features.checkpoint import Checkpoint
from tiling import WriteError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
none = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
checkpoint = Checkpoint(Path(sys.argv[1]), "mine")
for bound in (0, 100, 30_000, 200_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bound, none))
    try:
        checkpoint.write(1, [], {}, {"rows": torch.zeros(10_000)})
    except WriteError as error:
        print("told", error)
    else:
        print("whole")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the bounds on a process are Linux's")
def test_a_file_that_cannot_grow_is_told_and_nothing_of_it_is_left(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    command = [sys.executable, "-c", WORKER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    *told, last = done.stdout.splitlines()
    assert last == "whole"
    assert len(told) == 3
    assert all(f"{path}: cannot be written (File too large); check free space" in each for each in told)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_where_nothing_may_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        write_tensors(tmp_path / "file" / "a.safetensors", {"a": torch.zeros(2)})


def test_header_and_tensors_are_those_that_were_given(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"a": torch.arange(3)}, {"told": "b"})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"told": "b"}
        assert torch.equal(file.get_tensor("a"), torch.arange(3))


def test_a_checkpoint_is_of_another_training_where_its_identity_is(tmp_path):
    one = Checkpoint(tmp_path / "a", "one")
    assert not one.is_of_another()
    one.write(2, [], {}, {})
    assert not one.is_of_another()
    assert Checkpoint(tmp_path / "a", "two").is_of_another()
