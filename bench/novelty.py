"""How well slides and tiles unlike the training are told, and by which measure.

    python bench/novelty.py --data DATA --cohort COHORT --run RUN [--set prototypes=4]

A learner is fitted on three fifths of a colon cohort (as of `learners.py --cohort crc`), its measures are
brought to one scale on the next fifth, and the last is what is like the training. Lung tiles, 20 of one
kind a bag, and the breast patches of 140 patients are not; features of all are those of DINOv2 ViT-S/14.
Printed is the AUROC, the mean of three folds, with which a measure tells tiles, and bags by the mean of
their tiles: of the distance of features from training centres, of the maximum logit, of the distance from
the nearest prototype, of the largest of the three and of their mean. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cohorts import Task, folds
from cohorts_images import idc, lung
from cohorts_slides import crc
from judging import CLASSES, start_process
from variants import pairs

from mil.learner import Bag, Learner
from mil.metrics import instance_auc
from mil.model.novelty import Centres, max_logit
from mil.training import new_learner

TESTED = 3  # of the five folds, and as many fits
MEASURES = ("features", "max logit", "prototypes", "largest", "mean")
Measured = list[np.ndarray]  # a bag each: (measures, N)


def measure(learner: Learner, centres: Centres, bags: Sequence[Bag]) -> Measured:
    """Return how strange the tiles of each bag are by features, maximum logit and prototypes."""
    found = []
    for bag in bags:
        told = learner.predict(bag)
        by_prototype = np.zeros(len(bag)) if told.prototype_distance is None else told.prototype_distance
        by_logit = -max_logit(told.tile_probability)
        found.append(np.stack([centres.log_distance(bag.features), by_logit, by_prototype]))
    return found


def on_one_scale(held_out: Measured, measured: Measured) -> Measured:
    """Bring measures to the robust standard deviations of held-out tiles, and add largest and mean."""
    tiles = np.concatenate(held_out, axis=1)
    middle = np.median(tiles, axis=1, keepdims=True)
    spread = np.median(np.abs(tiles - middle), axis=1, keepdims=True) + 1e-9
    scaled = [(each - middle) / spread for each in measured]
    return [np.concatenate([each, each.max(0)[None], each.mean(0)[None]]) for each in scaled]


def aucs(like: Measured, unlike: Measured) -> dict[str, list[float]]:
    """Return the AUROC of each measure of tiles and of bags."""
    tiles = np.concatenate(like + unlike, axis=1)
    bags = np.stack([each.mean(axis=1) for each in like + unlike], axis=1)
    n_tiles = sum(each.shape[1] for each in like)
    return {
        "tiles": [instance_auc(row, np.arange(tiles.shape[1]) >= n_tiles) for row in tiles],
        "bags": [instance_auc(row, np.arange(bags.shape[1]) >= len(like)) for row in bags],
    }


def judge(
    task: Task, foreign: dict[str, list[Bag]], learner_name: str, settings: dict[str, str], seed: int
) -> dict[tuple[str, str], list[list[float]]]:
    """Return the AUROC by unlike set and level, a list a fold."""
    fold, found = folds(task, seed), defaultdict(list)
    for k in range(TESTED):
        parts = [np.flatnonzero(fold == k), np.flatnonzero(fold == (k + 1) % task.n_folds)]
        train = np.flatnonzero(~np.isin(np.arange(len(fold)), np.concatenate(parts)))
        bags = [task.bags[i] for i in train]
        learner = new_learner(learner_name, settings)
        learner.fit(bags, task.labels[train].astype(int), CLASSES, seed=seed)
        centres = Centres.of(bags, seed)
        like, held_out = (measure(learner, centres, [task.bags[i] for i in part]) for part in parts)
        like_scaled = on_one_scale(held_out, like)
        for name, unlike in foreign.items():
            unlike_scaled = on_one_scale(held_out, measure(learner, centres, unlike))
            for level, values in aucs(like_scaled, unlike_scaled).items():
                found[name, level].append(values)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--cohort", type=Path, required=True, help="the folder of bench/crc_slides.py")
    parser.add_argument("--run", type=Path, required=True, help="the run folder with its features")
    parser.add_argument("--learner", default="slidebag")
    parser.add_argument("--set", nargs="+", default=[], help="option=value of the learner")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "slidebag-bench")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    start_process()
    task, _ = crc(told.cohort, told.run, "dinov2-vits14", "normal")
    foreign = {"lung": lung(told.data, told.cache), "breast": idc(told.data, told.cache)[0].bags}
    print(f"{'AUROC':<16}" + "".join(f"{name:>12}" for name in MEASURES))
    table = {}
    for (name, level), values in judge(task, foreign, told.learner, pairs(told.set), told.seed).items():
        mean = np.mean(values, axis=0)
        print(f"{name + ' ' + level:<16}" + "".join(f"{value:>12.3f}" for value in mean))
        table[f"{name} {level}"] = dict(zip(MEASURES, mean.tolist(), strict=True))
    print(json.dumps(table))


if __name__ == "__main__":
    main()
