import errno
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tiling import WriteError, replacing_hdf5

# what a full disk does at any byte of a file; the library crashed as the process ended
WORKER = """
import resource, signal, sys
from pathlib import Path
import h5py, numpy as np
from tiling import WriteError, replacing_hdf5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
none = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for bound in range(0, 60_000, 1500):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bound, none))
    try:
        with replacing_hdf5(Path(sys.argv[1])) as file:
            file.attrs["a"] = "b" * 500
            file["rows"] = np.arange(2000)
            patches = file.create_dataset("patches", (20,), h5py.vlen_dtype(np.uint8))
            for row in range(20):
                patches[row] = np.zeros(1000, np.uint8)
    except WriteError:
        print("told")
    else:
        print("whole")
"""


def fill(file):
    file["rows"] = np.arange(2000)
    file["text"] = "a" * 3000


@pytest.mark.skipif(sys.platform != "linux", reason="the bounds on a process are Linux's")
def test_a_write_that_fails_is_told_and_ends_no_process(tmp_path):
    path = tmp_path / "a.h5"
    done = subprocess.run([sys.executable, "-c", WORKER, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.split()
    n_told = told.count("told")
    assert told == ["told"] * n_told + ["whole"] * (40 - n_told)
    assert 20 < n_told < 40
    assert list(tmp_path.iterdir()) == [path]  # no half file beside it
    with h5py.File(path) as file:
        assert (file["rows"][:] == np.arange(2000)).all()


def test_what_is_written_comes_back_and_the_rest_is_zero(tmp_path):
    with replacing_hdf5(tmp_path / "a.h5") as file:
        fill(file)
        file.create_dataset("sparse", (1000, 64), np.float16)[5:7] = 1
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["rows"][:] == np.arange(2000)).all()
        assert len(file["text"][()]) == 3000
        assert file["sparse"].chunks is None
        assert file["sparse"][5:7].all()
        assert file["sparse"][:].sum() == 128


def test_a_failed_write_is_told_at_the_end_of_its_block(tmp_path):
    told = pytest.raises(WriteError, match=r"a\.h5: cannot be written \(No space")
    with told, replacing_hdf5(tmp_path / "a.h5") as file:
        with file.writing():
            fill(file)
        file._stream.error = OSError(errno.ENOSPC, "No space left on device")
        with pytest.raises(WriteError, match=r"a\.h5"), file.writing():
            file["more"] = np.arange(5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_else_goes_wrong_in_the_block_is_passed_on(tmp_path, error):
    def fail():
        with replacing_hdf5(tmp_path / "a.h5") as file:
            fill(file)
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())
