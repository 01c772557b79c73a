"""Any rows of many bags, out of files."""

import os
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from features import FeatureStore, Instances, load_features, map_rows, pack_features, place_of
from features import pack as packing
from tiling import FormatError, SlidebagError

LENGTHS = (7, 0, 300, 1, 64)


@pytest.fixture(params=["bags", "store", "many shards"])
def opened(request, make_bags, tmp_path, monkeypatch):
    """Instances, and all their rows in memory."""
    sources = make_bags(*LENGTHS)
    bags = [load_features(path) for _, path in sources.values()]
    if request.param == "bags":
        found = Instances.from_bags([path for _, path in sources.values()])
    else:
        if request.param == "many shards":
            monkeypatch.setattr(packing, "_CHUNK_BYTES", 160)
            monkeypatch.setattr(packing, "_CHUNKS_A_SHARD", 2)
        pack_features(sources, tmp_path / "out.zarr")
        n_shards = len(list((tmp_path / "out.zarr/features/c").iterdir()))
        assert n_shards == (12 if request.param == "many shards" else 1)
        found = FeatureStore(tmp_path / "out.zarr").instances()
    return found, np.concatenate([bag.features for bag in bags]), bags


def test_rows_are_those_of_the_bags(opened):
    found, every, bags = opened
    assert len(found) == sum(LENGTHS)
    assert found.offsets.tolist() == [0, 7, 7, 307, 308, 372]
    np.testing.assert_array_equal(found.unreadable, np.concatenate([bag.unreadable for bag in bags]))
    indices = np.random.default_rng(1).integers(0, len(found), 1000)
    np.testing.assert_array_equal(found.rows(indices), every[indices])
    assert found.rows(indices).dtype == every.dtype
    assert found.rows(np.array([], int)).shape == (0, 5)
    for k, bag in enumerate(bags):
        np.testing.assert_array_equal(found.bag(k), bag.features)


def test_rows_and_bags_that_are_not_there(opened):
    found = opened[0]
    for wrong in ([-1], [372], [0, 400]):
        with pytest.raises(IndexError, match="there are 372"):
            found.rows(np.array(wrong))
    for wrong in (-1, 5):
        with pytest.raises(IndexError, match="there are 5"):
            found.bag(wrong)


def test_nothing_can_be_written_through_it(opened):
    found = opened[0]
    with pytest.raises(ValueError, match="read-only"):
        found.bag(0)[0] = 1
    rows = found.rows(np.array([0]))
    rows[:] = 9
    assert (found.rows(np.array([0])) != 9).any()


def test_threads_share_it(opened):
    found, every, _ = opened
    parts = np.random.default_rng(2).integers(0, len(found), (20, 100))
    with ThreadPoolExecutor(4) as pool:
        for indices, rows in zip(parts, pool.map(found.rows, parts), strict=True):
            np.testing.assert_array_equal(rows, every[indices])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside threads; the child does no more
def test_it_works_after_a_fork(opened):
    found, every, _ = opened
    child = os.fork()
    if not child:
        os._exit(0 if (found.rows(np.arange(len(found))) == every).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted on Linux")  # noqa: PTH112
def test_bags_hold_no_handle_each(make_bags):
    path = next(iter(make_bags(3).values()))[1]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    found = Instances.from_bags([path] * 200)
    assert len(os.listdir("/proc/self/fd")) - before < 10  # noqa: PTH208
    assert len(found) == 600


def test_bags_that_cannot_be_mapped_or_are_not_alike_are_told(make_bags, tmp_path):
    one = make_bags(4)["slide-0"][1]
    other = make_bags(4, 4, dtype="float32")["a/slide-1"][1]
    make_bags(4)
    with pytest.raises(SlidebagError, match="5 × float32, those of"):
        Instances.from_bags([one, other])
    with h5py.File(one, "a") as file:
        rows = file["features"][:]
        del file["features"]
        file.create_dataset("features", data=rows, compression="gzip")
    with pytest.raises(FormatError, match="chunked or compressed"):
        Instances.from_bags([one])


def test_no_bags_are_no_rows(make_bags):
    assert len(Instances.from_bags([])) == 0
    empty = Instances.from_bags([make_bags(0)["slide-0"][1]])
    assert empty.bag(0).shape == (0, 5)
    assert empty.rows(np.zeros(0, int)).shape == (0, 5)


def test_mapped_rows_and_slices_of_them_tell_where_they_lie_and_no_copy_does(tmp_path):
    told = np.arange(60, dtype=np.float32).reshape(20, 3)
    (tmp_path / "rows").write_bytes(b"7 bytes" + told.tobytes())
    rows = map_rows(tmp_path / "rows", 7, told.shape, told.dtype)
    for view in (rows, rows[4:], rows[4:][2:9], rows.reshape(-1, 6)[3:]):
        place = place_of(view)
        assert place is not None
        assert not view.flags.writeable
        np.testing.assert_array_equal(map_rows(*place), view)
    for other in (rows[::2], rows[:, :2], rows[rows[:, 0] > 9], rows + 0, rows.copy(), rows[3:3].copy()):
        assert place_of(other) is None
