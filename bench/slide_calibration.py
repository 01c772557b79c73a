"""What calibrating slides by few validation slides does to their Brier score, under several priors.

    python bench/slide_calibration.py --data DATA [--slides 40] [--species 1 6] [--repeats 4]

Of birdsong recordings so many are drawn, half of them with a species. As in a fold of five, three fifths
teach a first model, which is asked for one fifth; both teach a second one, whose probabilities are
calibrated by what the first one said. Printed is the Brier score of up to 120 other recordings without
calibration, and with the prior of `mil.calibration` made so many times as wide.
"""

import argparse
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
from cohorts import BIRD_SPECIES, Task, birds

from mil.calibration import HeldOut, calibrate, slides
from mil.classes import Classes
from mil.learner import Learner
from mil.metrics import brier
from mil.training import new_learner

BINARY, WIDTHS, MOST_TESTED = Classes(("negative", "positive"), has_negative=True), (0.5, 1, 2, 4), 60


def parted(labels: np.ndarray, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the bags that teach, are held out, and are asked in the end, as many of each class."""
    held = max(3, n // 10)
    per_class = 3 * n // 10 + held
    orders = [rng.permutation(np.flatnonzero(labels == is_there)) for is_there in (False, True)]
    ends = (0, per_class - held, per_class, per_class + MOST_TESTED)
    return [np.concatenate([order[a:b] for order in orders]) for a, b in pairwise(ends)]


def fitted(task: Task, rows: np.ndarray, seed: int) -> Learner:
    learner = new_learner("slidebag", {"members": "1"})
    learner.fit([task.bags[i] for i in rows], task.labels[rows].astype(int), BINARY, seed=seed)
    return learner


def scores(task: Task, n: int, seed: int) -> list[float]:
    """Return the Brier score without calibration, then with each width of the prior."""
    teach, held, asked = parted(task.labels, n, np.random.default_rng([seed, n]))
    first = fitted(task, teach, seed)
    told = [first.predict(task.bags[i]) for i in held]
    second = fitted(task, np.concatenate([teach, held]), seed)
    probability = np.stack([second.predict(task.bags[i]).probability for i in asked])
    held_out = HeldOut.of(told, task.labels[held].astype(int), np.zeros((len(held), 1), np.float32))
    found = [probability]
    for width in WIDTHS:
        wide = {name: width * getattr(slides, name) for name in ("SLOPE_DOUBT", "OFFSET_DOUBT")}
        with mock.patch.multiple(slides, **wide):
            found.append(calibrate(held_out, BINARY, 0.9).calibration.slide(probability))
    return [brier(each, task.labels[asked].astype(int)) for each in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--species", type=int, nargs="+", choices=BIRD_SPECIES, default=[1, 6])
    parser.add_argument("--repeats", type=int, default=4)
    told = parser.parse_args()
    print(f"{'species':<10}{'none':>8}" + "".join(f"{f'prior x{width:g}':>12}" for width in WIDTHS))
    for task in birds(told.data, tuple(told.species)):
        found = np.mean([scores(task, told.slides, seed) for seed in range(told.repeats)], axis=0)
        print(
            f"{task.name:<10}{found[0]:>8.3f}" + "".join(f"{each:>12.3f}" for each in found[1:]), flush=True
        )


if __name__ == "__main__":
    main()
