"""What a learner is measured on: a task, its folds, and the cohorts that are tables.

The truth of instances is kept beside the bags, in arrays that no learner is handed.
"""

import csv
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mil.learner import Bag

BIRD_SPECIES = (1, 3, 4, 6, 8)
HELD_OUT_SPECIES = (2, 9, 10, 11, 12, 13)  # kept for a final check


@dataclass(frozen=True)
class Task:
    """One yes-or-no question to a cohort.

    `labels` bool (B,); `groups` (B,) are never split over folds; `truth` int8 (N,) a bag: 1, 0, or -1
    where nobody knows. Where `test` bool (B,) is given, its bags are predicted by one model of the
    others, else each bag out of fold. `oracle_auc` is the instance AUC of whoever knows how the
    features were drawn, where they were. Where `told` bool (B,) is given, learners are given those labels,
    and are judged by `labels`.
    """

    name: str
    bags: list[Bag]
    labels: np.ndarray
    groups: np.ndarray
    truth: list[np.ndarray]
    n_folds: int = 5
    test: np.ndarray | None = None
    oracle_auc: float = float("nan")
    told: np.ndarray | None = None

    @property
    def training_labels(self) -> np.ndarray:
        """Return the labels that learners are given, bool (B,)."""
        return self.labels if self.told is None else self.told


def flipped(task: Task, share: float, seed: int) -> Task:
    """Return the task with `share` of the labels of each class wrong wherever a learner is given them."""
    draw, told = np.random.default_rng(seed), task.labels.copy()
    for label in (False, True):
        own = np.flatnonzero(task.labels == label)
        told[draw.permutation(own)[: round(share * len(own))]] = not label
    return replace(task, told=told)


def folds(task: Task, seed: int) -> np.ndarray:
    """Return the fold of each bag, (B,): whole groups, classes spread evenly; -1 is in no test."""
    if task.test is not None:
        return np.where(task.test, 0, -1)
    draw = np.random.default_rng([seed, zlib.crc32(task.name.encode())])
    fold_of_group: dict = {}
    for positive in (True, False):
        groups = [g for g in dict.fromkeys(task.groups[task.labels == positive]) if g not in fold_of_group]
        start = len(fold_of_group)
        for place, i in enumerate(draw.permutation(len(groups))):
            fold_of_group[groups[i]] = (start + place) % task.n_folds
    return np.array([fold_of_group[group] for group in task.groups])


def birds(data: Path, species: tuple[int, ...] = BIRD_SPECIES) -> list[Task]:
    """Return one task a species of the HJA birdsong set: is it heard in this recording?"""
    folder = data / "mil" / "birds"
    table = np.loadtxt(folder / "hja_birdsong_features.txt", delimiter=",", skiprows=1, dtype=np.float64)
    told = np.loadtxt(folder / "hja_birdsong_instance_labels.txt", delimiter=",", skiprows=1, dtype=int)
    heard = {}
    for line in (folder / "hja_birdsong_bag_labels.txt").read_text().splitlines()[1:]:
        bag, *classes = (int(value) for value in line.strip(", ").split(","))
        heard[bag] = set(classes)
    names = [int(bag) for bag in np.unique(table[:, 0])]
    bags = [Bag(str(name), table[table[:, 0] == name, 1:].astype(np.float32)) for name in names]
    instance_labels = [told[told[:, 0] == name, 1] for name in names]
    tasks = []
    for one in species:
        truth = [np.where(each < 0, -1, each == one).astype(np.int8) for each in instance_labels]
        labels = np.array([one in heard.get(name, set()) for name in names])
        tasks.append(Task(f"species {one}", bags, labels, np.array(names), truth))
    return tasks


def ucsb(table: Path) -> list[Task]:
    """Return the one task of UCSB breast cancer, in ten folds: is the image malignant?

    A line of `table` is an instance: label of its image, number of its image, 708 features. No truth
    of instances is known.
    """
    with table.open(newline="") as file:
        rows = np.array([[float(value) for value in row] for row in csv.reader(file)])
    names = np.unique(rows[:, 1])
    parts = [rows[rows[:, 1] == name] for name in names]
    bags = [
        Bag(f"{name:.0f}", part[:, 2:].astype(np.float32)) for name, part in zip(names, parts, strict=True)
    ]
    labels = np.array([part[0, 0] == 1 for part in parts])
    truth = [np.full(len(part), -1, np.int8) for part in parts]
    return [Task("ucsb", bags, labels, names, truth, n_folds=10)]
