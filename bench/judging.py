"""One learner on one task: fitted on bags and bag labels, predicting bags it has not seen, judged."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cohorts import Task, folds

import mil.instance
import mil.pooling  # noqa: F401 - files the baselines
from mil.learner import Classes, Prediction
from mil.metrics import choose_tile_threshold, dice, instance_ap, instance_auc, slide_auc
from mil.training import new_learner

FIGURES = {
    "slide_auc": "slide AUC",
    "slide_accuracy": "slide acc.",
    "instance_auc": "tile AUC",
    "instance_auc_in_positive": "in positive",
    "instance_ap_in_positive": "AP in pos.",
    "dice": "Dice",
    "fit_s": "CPU s/fit",
    "peak_mb": "peak MB",
}
CLASSES = Classes(("negative", "positive"), has_negative=True)


@dataclass(frozen=True)
class Variant:
    """A learner with some of its options, as text, set."""

    label: str
    learner: str
    settings: dict[str, str]


@dataclass(frozen=True)
class Judged:
    """The figures of one variant on one task with one seed, and what its fits warned of."""

    figures: dict[str, float]
    warnings: list[str]


@dataclass(frozen=True)
class Unseen:
    """The predictions of all tested bags by models that have not seen them; `bags` (P,) says which."""

    bags: np.ndarray
    predictions: list[Prediction]
    fold: np.ndarray


def start_process() -> None:
    """Prepare a process that judges: one thread, and what the first optimizer imports is not its fit's."""
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])


def judge(variant: Variant, task: Task, seed: int) -> Judged:
    """Fit and predict fold by fold; figures are of all predictions together.

    Seconds are CPU seconds of a fit, the mean of the folds. Memory is the most that this process held
    from the first fit to the last prediction, libraries and the task itself included.
    """
    forget_peak()
    fold = folds(task, seed)
    found: dict[int, Prediction] = {}
    seconds, warnings = [], []
    for k in range(fold.max() + 1):
        learner = new_learner(variant.learner, variant.settings)
        train = np.flatnonzero(fold != k).tolist()
        start = time.process_time()
        learner.fit(
            [task.bags[i] for i in train], [int(task.training_labels[i]) for i in train], CLASSES, seed=seed
        )
        seconds.append(time.process_time() - start)
        warnings += learner.warnings
        found |= {i: learner.predict(task.bags[i]) for i in np.flatnonzero(fold == k).tolist()}
    bags = np.array(sorted(found))
    told = figures(task, Unseen(bags, [found[i] for i in bags], fold[bags]))
    cost = {
        "fit_s": float(np.mean(seconds)),
        "peak_mb": peak_mb(),
    }
    return Judged(told | cost, warnings)


def forget_peak() -> None:
    """Let the peak that `peak_mb` tells begin anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return the most memory that this process has held since its peak was forgotten."""
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def figures(task: Task, unseen: Unseen) -> dict[str, float]:
    """Return the figures; NaN where the truth of instances is not known."""
    tiles = [prediction.tile_probability[:, 1] for prediction in unseen.predictions]
    slides = np.stack([prediction.probability for prediction in unseen.predictions])
    labels, truths = task.labels[unseen.bags], [task.truth[i] for i in unseen.bags]
    known = [truth >= 0 for truth in truths]
    score = np.concatenate([tile[k] for tile, k in zip(tiles, known, strict=True)])
    truth = np.concatenate([each[k] for each, k in zip(truths, known, strict=True)]) == 1
    inside = np.concatenate([np.full(k.sum(), label) for k, label in zip(known, labels, strict=True)])
    return {
        "slide_auc": slide_auc(slides, labels.astype(int)),
        "slide_accuracy": float(((slides[:, 1] >= 0.5) == labels).mean()),
        "instance_auc": instance_auc(score, truth),
        "instance_auc_in_positive": instance_auc(score[inside], truth[inside]),
        "instance_ap_in_positive": instance_ap(score[inside], truth[inside]),
        "dice": _dice(labels, truths, tiles, unseen.fold),
    }


def _dice(
    labels: np.ndarray, truths: Sequence[np.ndarray], tiles: Sequence[np.ndarray], fold: np.ndarray
) -> float:
    """Return Dice over all tiles; each fold's threshold comes from the bags of the other folds."""
    if not fold.any():  # one fold has no others
        return float("nan")
    above, truth = [], []
    for k in range(fold.max() + 1):
        others = np.flatnonzero(fold != k).tolist()
        threshold = choose_tile_threshold([tiles[i] for i in others], labels[others])
        for i in np.flatnonzero(fold == k).tolist():
            known = truths[i] >= 0
            above.append(tiles[i][known] >= threshold)
            truth.append(truths[i][known] == 1)
    return dice(np.concatenate(above), np.concatenate(truth), 0.5)
