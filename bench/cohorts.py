"""The labelled cohorts that learners are measured on: bags, bag labels, groups, and the truth of instances.

The truth is kept beside the bags, in arrays that no learner is handed.
"""

import csv
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from mil.learner import Bag

BIRD_SPECIES = (1, 3, 4, 6, 8)  # the others are kept for a final check


@dataclass(frozen=True)
class Task:
    """One yes-or-no question to a cohort.

    `labels` bool (B,); `groups` (B,) are never split over folds; `truth` int8 (N,) a bag: 1, 0, or -1
    where nobody knows.
    """

    name: str
    bags: list[Bag]
    labels: np.ndarray
    groups: np.ndarray
    truth: list[np.ndarray]


def birds(data: Path, species: tuple[int, ...] = BIRD_SPECIES) -> Iterator[Task]:
    """Yield one task a species of the HJA birdsong set: is it heard in this recording?"""
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
    for one in species:
        truth = [np.where(each < 0, -1, each == one).astype(np.int8) for each in instance_labels]
        labels = np.array([one in heard.get(name, set()) for name in names])
        yield Task(f"species {one}", bags, labels, np.array(names), truth)


def crc(folder: Path, run: Path, encoder: str, negative: str) -> Iterator[Task]:
    """Yield the one task of a cohort of painted slides: is the slide other than `negative`?

    `folder` holds `slides.csv` (slide, label, patient) and `truth/<slide>.png` (the whole slide, above
    127 is tumour), `run` is slidebag's own run on it with `features/<encoder>/<slide>.h5`. A tile is
    tumour if at least half of its area is.
    """
    with (folder / "slides.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    bags, truth = [], []
    for row in rows:
        path = run / "features" / encoder / f"{row['slide']}.h5"
        with h5py.File(path) as file:
            features, coords = np.asarray(file["features"]), np.asarray(file["coords"])
            told = dict(file.attrs)
        bags.append(Bag(row["slide"], features))
        picture = np.asarray(Image.open(folder / "truth" / f"{row['slide']}.png").convert("L")) > 127
        truth.append(_tumour_share(picture, coords, told) >= 0.5)
    labels = np.array([row["label"] != negative for row in rows])
    patients = np.array([row["patient"] for row in rows])
    yield Task(folder.name, bags, labels, patients, [share.astype(np.int8) for share in truth])


def _tumour_share(picture: np.ndarray, coords: np.ndarray, told: dict) -> np.ndarray:
    """Return the share of each tile that is tumour, (N,), by sums over rectangles of the picture."""
    height, width = picture.shape
    scale = np.array([width / told["width_level0"], height / told["height_level0"]])
    sums = np.pad(picture.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    first = np.floor(coords * scale + 0.5).astype(int)
    last = np.floor((coords + told["tile_px_level0"]) * scale + 0.5).astype(int)
    last = np.minimum(np.maximum(last, first + 1), [width, height])
    first = np.minimum(first, last - 1)
    (x0, y0), (x1, y1) = first.T, last.T
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return inside / ((x1 - x0) * (y1 - y0))


def folds(task: Task, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each bag, (B,): whole groups, classes spread evenly."""
    draw = np.random.default_rng([seed, zlib.crc32(task.name.encode())])
    fold_of_group: dict = {}
    for positive in (True, False):
        groups = [g for g in dict.fromkeys(task.groups[task.labels == positive]) if g not in fold_of_group]
        start = len(fold_of_group)
        for place, i in enumerate(draw.permutation(len(groups))):
            fold_of_group[groups[i]] = (start + place) % n_folds
    return np.array([fold_of_group[group] for group in task.groups])
