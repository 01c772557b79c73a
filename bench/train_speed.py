"""Training speed of a learner: instances a second over drawn features that lie in a memory-mapped file.

    python bench/train_speed.py [--learner slidebag] [--set epochs=2 members=1] [--instances 1000000]

Rates are those of the last epoch, between its report and the one before; what comes before the first
epoch's report is told apart. Instances are those that the report counts under `instances`, or --seen of a
learner that does not tell: an epoch need not be one pass over all of them. The share of the limit is the
floating-point operations of that epoch, counted by torch in a second fit, by CPU second, over those of a
large float32 matrix product: other programs change it little. Memory is the peak of the process in the
first fit: once with the pages of the file that happen to be in memory, and once without, `anonymous_mb`, of
which the process held `anonymous_before_mb` before. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from judging import CLASSES, forget_peak, peak_mb
from torch.utils.flop_counter import FlopCounterMode
from variants import pairs

import mil.instance
import mil.pooling  # noqa: F401 - files the baselines
from mil.learner import Bag
from mil.training import new_learner

# what makes a fit short: at least two epochs' reports, of one model
SHORT = {"slidebag": {"members": "1", "witness_epochs": "1", "epochs": "2"}}
BLOCK_BAGS = 50
POSITIVE_SHARE, SHIFT = 0.05, 0.25
PRODUCT_SIDE, PRODUCTS = 2048, 5


def draw_bags(path: Path, n_bags: int, bag_size: int, dim: int) -> list[Bag]:
    """Write Gaussian features float16 to `path` and return bags that map it; odd ones are positive."""
    draw = np.random.default_rng(0)
    shape = (n_bags, bag_size, dim)
    features = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    n_positive = max(1, round(POSITIVE_SHARE * bag_size))
    for start in range(0, n_bags, BLOCK_BAGS):
        block = draw.standard_normal((min(BLOCK_BAGS, n_bags - start), bag_size, dim), np.float32)
        block[(start + 1) % 2 :: 2, :n_positive] += SHIFT
        features[start : start + BLOCK_BAGS] = block
    features.flush()
    return [Bag(str(i), each) for i, each in enumerate(np.load(path, mmap_mode="r"))]


@dataclass
class Clock:
    """Notes wall time, CPU time and a count of operations whenever an epoch is reported."""

    operations: Callable[[], int] = lambda: 0
    marks: list[tuple[float, float, int]] = field(default_factory=list)
    told: Mapping[str, float] = field(default_factory=dict)

    def note(self, figures: Mapping[str, float]) -> None:
        """Take the report of an epoch."""
        self.marks.append((time.perf_counter(), time.process_time(), self.operations()))
        self.told = dict(figures)

    @property
    def last_epoch(self) -> tuple[float, float, int]:
        """Return wall seconds, CPU seconds and operations of the last epoch."""
        wall, cpu, operations = (b - a for a, b in zip(self.marks[-2], self.marks[-1], strict=True))
        return wall, cpu, int(operations)


class AnonymousPeak:
    """Looks on from a thread how much memory the process holds that no file stands behind (Linux)."""

    def __init__(self) -> None:
        self.before_mb = self.mb = self._now()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "AnonymousPeak":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.02):
            self.mb = max(self.mb, self._now())

    @staticmethod
    def _now() -> float:
        return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) / 1024


def product_rate() -> float:
    """Return float32 operations by CPU second of a large matrix product on one thread."""
    torch.set_num_threads(1)
    a, b = torch.randn(2, PRODUCT_SIDE, PRODUCT_SIDE)
    rates = []
    for _ in range(PRODUCTS):
        start = time.process_time()
        torch.mm(a, b)
        rates.append(2 * PRODUCT_SIDE**3 / (time.process_time() - start))
    return float(np.median(rates))


def measure(learner: str, settings: dict[str, str], bags: list[Bag], seen: float | None) -> dict[str, float]:
    """Return the figures; `seen` instances make an epoch of a learner that does not report them."""
    labels = [i % 2 for i in range(len(bags))]
    n_instances = sum(len(bag) for bag in bags)
    forget_peak()
    clock, start = Clock(), time.perf_counter()
    with AnonymousPeak() as anonymous:
        new_learner(learner, settings).fit(bags, labels, CLASSES, seed=0, report=clock.note)
    fit_s, peak = time.perf_counter() - start, peak_mb()
    wall_s, cpu_s, _ = clock.last_epoch
    seen = clock.told.get("instances", seen)
    if seen is None:
        raise SystemExit(f"{learner} does not report `instances`: say with --seen how many an epoch has")
    counter = FlopCounterMode(display=False)
    counted = Clock(counter.get_total_flops)
    with counter:
        new_learner(learner, settings).fit(bags, labels, CLASSES, seed=0, report=counted.note)
    operations, limit = counted.last_epoch[2], product_rate()
    return {
        "instances": n_instances,
        "instances_seen_in_epoch": seen,
        "epoch_s": wall_s,
        "epoch_cpu_s": cpu_s,
        "until_first_report_s": clock.marks[0][0] - start,
        "fit_s": fit_s,
        "instances_per_s": seen / wall_s,
        "instances_per_cpu_s": seen / cpu_s,
        "operations_per_instance": operations / seen,
        "gflops_per_cpu_s": operations / cpu_s / 1e9,
        "limit_gflops_per_cpu_s": limit / 1e9,
        "share_of_limit": operations / cpu_s / limit,
        "peak_mb": peak,
        "anonymous_mb": anonymous.mb,
        "anonymous_before_mb": anonymous.before_mb,
        "features_mb": n_instances * bags[0].features.shape[1] * 2 / 1024**2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--learner", default="slidebag")
    parser.add_argument("--set", nargs="+", default=[], help="option=value of the learner")
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--seen", type=float, help="instances in an epoch of a learner that does not tell")
    parser.add_argument("--bags", type=int, default=500)
    parser.add_argument("--dim", type=int, default=384)
    told = parser.parse_args()
    settings = SHORT.get(told.learner, {"epochs": "2"}) | pairs(told.set)
    with tempfile.TemporaryDirectory() as folder:
        bags = draw_bags(Path(folder) / "features.npy", told.bags, told.instances // told.bags, told.dim)
        table = measure(told.learner, settings, bags, told.seen)
    print(f"{told.learner} {settings}")
    for figure, value in table.items():
        print(f"{figure:<26}{value:>16,.3f}")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
