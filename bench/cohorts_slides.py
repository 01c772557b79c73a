"""The cohort of slides that `crc_slides.py` has drawn and slidebag has read."""

import csv
import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from cohorts import Task
from PIL import Image

from mil.learner import Bag


def crc(folder: Path, run: Path, encoder: str, negative: str) -> tuple[Task, list[np.ndarray]]:
    """Return the task of a cohort of painted slides: is the slide other than `negative`?

    `folder` holds `slides.csv` (slide, label, patient) and `truth/<slide>.png` (the whole slide, above
    127 is tumour), `run` is slidebag's own run on it with the features of `encoder`. A tile is tumour
    if at least half of its area is; that share, (N,) a slide, is returned beside the task.
    """
    with (folder / "slides.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    paths = {path.stem: path for path in (run / "features" / encoder).rglob("*.h5")}
    bags, shares = [], []
    for row in rows:
        with h5py.File(paths[row["slide"]]) as file:
            features, coords = np.asarray(file["features"]), np.asarray(file["coords"])
            told = dict(file.attrs)
        bags.append(Bag(row["slide"], features, patient=row["patient"]))
        picture = np.asarray(Image.open(folder / "truth" / f"{row['slide']}.png").convert("L")) > 127
        shares.append(_tumour_share(picture, coords, told))
    labels = np.array([row["label"] != negative for row in rows])
    patients = np.array([row["patient"] for row in rows])
    truth = [(share >= 0.5).astype(np.int8) for share in shares]
    return Task("crc", bags, labels, patients, truth), shares


def thinned(task: Task, area: list[np.ndarray], share: float, seed: int) -> Task:
    """Return the task with so little tumour left that it is `share` of the tiles of each positive slide.

    Which tumour tiles go is drawn by `seed`; of a smaller share they are some of those of a larger
    one. Tiles that are tumour by `area`, but by less than half, go too. One tumour tile always stays.
    """
    bags, truth = [], []
    for bag, label, of_bag, tumour in zip(task.bags, task.labels, task.truth, area, strict=True):
        keep = tumour == 0
        positive = np.flatnonzero(of_bag == 1)
        if label and not len(positive):
            raise SystemExit(f"{bag.id}: no tile is tumour by half, so nothing would be left to find")
        if label and len(positive):
            draw = np.random.default_rng([seed, zlib.crc32(bag.id.encode())])
            wanted = max(1, round(share / (1 - share) * keep.sum()))
            keep[draw.permutation(positive)[:wanted]] = True
        bags.append(replace(bag, features=bag.features[keep]))
        truth.append(of_bag[keep])
    return Task(f"{task.name} {share:.0%}", bags, task.labels, task.groups, truth)


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
