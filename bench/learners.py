"""Learners side by side on one cohort, with bag labels only: 5 folds, out of fold, last epoch.

Figures are of the out-of-fold predictions pooled over the folds, the mean over tasks, then mean and
standard deviation over seeds. No figure is used to select anything. The last line is one JSON object.

    python bench/learners.py --cohort birds --data DATA
    python bench/learners.py --cohort crc --data COHORT --run RUN --encoder dinov2-vits14
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cohorts import BIRD_SPECIES, Task, birds, crc, folds

import mil.instance
import mil.pooling  # noqa: F401 - files the baselines
from mil.learner import LEARNERS, Classes, Prediction
from mil.metrics import choose_tile_threshold, dice, instance_ap, instance_auc, slide_auc

N_FOLDS = 5
FIGURES = (
    "slide_auc",
    "instance_auc",
    "instance_auc_in_positive",
    "instance_ap_in_positive",
    "dice",
    "seconds",
)
CLASSES = Classes(("negative", "positive"), has_negative=True)


@dataclass(frozen=True)
class OutOfFold:
    """The predictions of all bags by models that have not seen them, and the seconds of fitting."""

    predictions: list[Prediction]
    fold: np.ndarray
    seconds: float


def flipped(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return the labels, bool (B,), with `share` of those of each class wrong."""
    draw, wrong = np.random.default_rng(seed), labels.copy()
    for label in (False, True):
        own = np.flatnonzero(labels == label)
        wrong[draw.permutation(own)[: round(share * len(own))]] = not label
    return wrong


def predict_out_of_fold(name: str, task: Task, seed: int, flip: float = 0.0) -> OutOfFold:
    fold = folds(task, N_FOLDS, seed)
    labels = flipped(task.labels, flip, seed)
    predictions: dict[int, Prediction] = {}
    seconds = 0.0
    for k in range(N_FOLDS):
        learner = LEARNERS[name]()
        train = np.flatnonzero(fold != k)
        start = time.perf_counter()
        learner.fit([task.bags[i] for i in train], [int(labels[i]) for i in train], CLASSES, seed=seed)
        seconds += time.perf_counter() - start
        for i in np.flatnonzero(fold == k):
            predictions[int(i)] = learner.predict(task.bags[i])
    return OutOfFold([predictions[i] for i in range(len(task.bags))], fold, seconds / N_FOLDS)


def figures(task: Task, found: OutOfFold) -> dict[str, float]:
    tiles = [prediction.tile_probability[:, 1] for prediction in found.predictions]
    slides = np.stack([prediction.probability for prediction in found.predictions])
    known = [truth >= 0 for truth in task.truth]
    score = np.concatenate([tile[k] for tile, k in zip(tiles, known, strict=True)])
    truth = np.concatenate([each[k] for each, k in zip(task.truth, known, strict=True)]) == 1
    inside = np.concatenate([np.full(k.sum(), label) for k, label in zip(known, task.labels, strict=True)])
    return {
        "slide_auc": slide_auc(slides, task.labels.astype(int)),
        "instance_auc": instance_auc(score, truth),
        "instance_auc_in_positive": instance_auc(score[inside], truth[inside]),
        "instance_ap_in_positive": instance_ap(score[inside], truth[inside]),
        "dice": _dice(task, tiles, found.fold),
        "seconds": found.seconds,
    }


def _dice(task: Task, tiles: Sequence[np.ndarray], fold: np.ndarray) -> float:
    """Return Dice over all tiles; each fold's threshold comes from the bags of the other folds."""
    above, truth = [], []
    for k in range(N_FOLDS):
        others = np.flatnonzero(fold != k)
        threshold = choose_tile_threshold([tiles[i] for i in others], task.labels[others])
        for i in np.flatnonzero(fold == k):
            known = task.truth[i] >= 0
            above.append(tiles[i][known] >= threshold)
            truth.append(task.truth[i][known] == 1)
    return dice(np.concatenate(above), np.concatenate(truth), 0.5)


def measure(
    names: Iterable[str], tasks: Sequence[Task], seeds: Iterable[int], flip: float = 0.0
) -> dict[str, dict[str, float]]:
    """Return the figures of each learner: mean over tasks, then mean and deviation over seeds."""
    table = {}
    for name in names:
        by_seed = defaultdict(list)
        for seed in seeds:
            of_tasks = [figures(task, predict_out_of_fold(name, task, seed, flip)) for task in tasks]
            for figure in FIGURES:
                by_seed[figure].append(float(np.mean([one[figure] for one in of_tasks])))
        table[name] = {figure: float(np.mean(by_seed[figure])) for figure in FIGURES}
        table[name] |= {f"{figure}_sd": float(np.std(by_seed[figure])) for figure in FIGURES}
        print(_row(name, table[name]), flush=True)
    return table


def _row(name: str, figures: dict[str, float]) -> str:
    return f"{name:<12}" + "".join(
        f"{figures[key]:>10.3f} ±{figures[key + '_sd']:.3f}" if key != "seconds" else f"{figures[key]:>9.1f}"
        for key in FIGURES
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohort", choices=["birds", "crc"], required=True)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, or the cohort folder")
    parser.add_argument("--run", type=Path, help="crc: the run folder with the features of the cohort")
    parser.add_argument("--encoder", default="dinov2-vits14", help="whose features of the run folder")
    parser.add_argument("--negative", default="normal", help="the label of a negative slide")
    parser.add_argument("--species", type=int, nargs="+", default=list(BIRD_SPECIES))
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--flip", type=float, default=0.0, help="share of labels that are wrong in fitting")
    told = parser.parse_args()
    if told.cohort == "crc" and told.run is None:
        parser.error("--cohort crc needs --run")
    if told.cohort == "birds":
        tasks = list(birds(told.data, tuple(told.species)))
    else:
        tasks = list(crc(told.data, told.run, told.encoder, told.negative))
    titles = ("slide AUC", "tile AUC", "in positive", "AP in pos.", "Dice")
    print(f"{'learner':<12}" + "".join(f"{title:>17}" for title in titles) + f"{'s/fit':>9}")
    print(json.dumps(measure(told.learners, tasks, told.seeds, told.flip)))


if __name__ == "__main__":
    main()
