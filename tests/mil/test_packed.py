"""Packed bags: which rows are of which bag, what is drawn of a huge one, and that nothing is copied."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from mil.classes import Classes
from mil.learner import Bag
from mil.packed import PackedBags, Standardiser
from mil.training import new_learner

STATUS = Path("/proc/self/status")
BINARY = Classes(("negative", "tumour"), has_negative=True)


def packed(*sizes, dim=2):
    draw = np.random.default_rng(0)
    bags = [Bag(str(i), draw.normal(size=(n, dim)).astype(np.float32)) for i, n in enumerate(sizes)]
    return PackedBags.of(bags, [i % 2 for i in range(len(bags))])


def test_rows_of_bags_come_bag_after_bag_in_the_order_asked_for():
    rows, counts = packed(3, 1, 4).rows_of(torch.tensor([2, 0, 1]), 10, torch.Generator())
    assert rows.tolist() == [4, 5, 6, 7, 0, 1, 2, 3]
    assert counts.tolist() == [4, 3, 1]


def test_of_a_huge_bag_some_rows_are_drawn_each_as_often_as_the_others():
    bags, generator, seen = packed(3, 50, 2), torch.Generator().manual_seed(0), torch.zeros(55)
    for _ in range(2000):
        rows, counts = bags.rows_of(torch.tensor([1, 0]), 15, generator)
        assert counts.tolist() == [15, 3]
        assert len(rows.unique()) == 18
        seen[rows] += 1
    assert seen[:3].tolist() == [2000] * 3
    assert seen[53:].tolist() == [0, 0]
    # 600 on average, with a standard deviation of 20
    assert float(seen[3:53].min()) > 500
    assert float(seen[3:53].max()) < 700


def on_disk(bags, path):
    """Return the same bags as views of one file."""
    np.save(path, np.concatenate([bag.features for bag in bags]))
    ends = np.cumsum([len(bag) for bag in bags])[:-1]
    parts = np.split(np.load(path, mmap_mode="r"), ends)
    return [Bag(bag.id, part) for bag, part in zip(bags, parts, strict=True)]


def drawn(n_bags, n_tiles, dim, seed=0):
    """Every other bag has tiles that are moved."""
    draw = np.random.default_rng(seed)
    bags = []
    for i in range(n_bags):
        features = draw.standard_normal((n_tiles, dim), np.float32)
        features[: n_tiles // 5] += 3 * (i % 2)
        bags.append(Bag(str(i), features.astype(np.float16)))
    return bags, [i % 2 for i in range(n_bags)]


def brief(name):
    """Return a learner that is soon fitted, on a few tiles of a bag at a time."""
    few = {"members": "1", "witness_epochs": "1", "steps_per_epoch": "3", "instances_per_step": "64"}
    more = few | {"bags_per_step": "4", "queue": "64", "witnesses": "context"} if name == "slidebag" else {}
    return new_learner(name, {"epochs": "1", "tiles_per_bag": "64"} | more)


@pytest.mark.parametrize("name", ["slidebag", "mix"])
def test_a_fold_of_a_mapped_file_gives_the_weights_that_one_in_memory_gives(name, tmp_path):
    bags, labels = drawn(n_bags=40, n_tiles=80, dim=8)
    fold, found = [i for i in range(40) if i % 3], []
    for source in (bags, on_disk(bags, tmp_path / "all.npy")):
        learner = brief(name)
        learner.fit([source[i] for i in fold], [labels[i] for i in fold], BINARY, seed=0)
        learner.save(tmp_path / str(len(found)))
        found.append([learner.predict(bag).tile_probability for bag in source])
    one, two = ((tmp_path / n / "weights.safetensors").read_bytes() for n in "01")
    assert one == two
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells of memory without a file")
@pytest.mark.parametrize("name", ["slidebag", "mix"])
def test_memory_does_not_grow_with_the_features(name, tmp_path):
    # in a process of its own: what earlier tests left there, the allocator holds or gives back as it likes
    command = [sys.executable, __file__, name, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    peaks = [float(mb) for mb in done.stdout.split()]
    assert min(peaks[2:]) - max(peaks[:2]) < 20  # of 47 MB more


def peaks_mb(name, folder):
    peaks = []
    for n_bags in (32, 32, 80, 80):  # twice each: what libraries keep is not the learner's
        bags, labels = drawn_on_disk(folder / f"{n_bags}.npy", n_bags, n_tiles=1000, dim=512)
        learner = brief(name)
        with AnonymousPeak() as peak:
            learner.fit(bags, labels, BINARY, seed=0)
            for bag in bags:
                learner.predict(bag)
        peaks.append(peak.mb)
    return peaks


def drawn_on_disk(path, n_bags, n_tiles, dim):
    """Write one bag after the other, as memory that was held before and given back is held still."""
    features = np.lib.format.open_memmap(path, "w+", np.float16, (n_bags, n_tiles, dim))
    for i in range(n_bags):
        (bag,), _ = drawn(1, n_tiles, dim, seed=i)
        features[i] = bag.features
        features[i, : n_tiles // 5] += 3 * (i % 2)
    return [Bag(str(i), each) for i, each in enumerate(np.load(path, mmap_mode="r"))], [
        i % 2 for i in range(n_bags)
    ]


class AnonymousPeak:
    """How many MB of memory that no file stands behind the process holds at most."""

    mb = 0.0

    def __enter__(self):
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._is_over.set()
        self._thread.join()

    def _watch(self):
        while not self._is_over.wait(0.002):
            self.mb = max(self.mb, self._now())

    @staticmethod
    def _now():
        return int(STATUS.read_text().partition("RssAnon:")[2].split()[0]) / 1024


def test_a_feature_that_is_mostly_zero_is_not_the_loudest_and_dense_ones_keep_their_deviation():
    draw = np.random.default_rng(0)
    dense = 3 + 2 * draw.standard_normal((2000, 3))
    rare = np.where(draw.random((2000, 3)) < 0.02, 1.0, 0.0)
    bag = Bag("a", np.concatenate([dense, rare], axis=1).astype(np.float32))
    scaled = Standardiser.of([bag])(torch.from_numpy(bag.features))
    assert scaled[:, :3].std(0).tolist() == pytest.approx([1.0] * 3, abs=0.02)
    there = scaled[:, 3:][torch.from_numpy(rare > 0)]
    assert 0.5 < float(there.min()) < float(there.max()) < 2  # by their deviation they would be at 7


def test_where_no_feature_is_zero_each_is_scaled_by_its_deviation():
    features = np.random.default_rng(0).normal(5, [1, 10, 100], (500, 3)).astype(np.float32)
    scale = Standardiser.of([Bag("a", features)]).scale
    np.testing.assert_allclose(scale.numpy(), features.std(0), rtol=1e-4)


if __name__ == "__main__":  # as `test_memory_does_not_grow_with_the_features` calls it
    print(*peaks_mb(sys.argv[1], Path(sys.argv[2])))
