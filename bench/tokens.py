"""Whether the tokens of a tile tell where in it the tumour is, by learners that were taught on tiles.

    python bench/tokens.py --cohort COHORT --run RUN --tokens TOKEN_RUN [--learners mean ...]

COHORT and RUN are those of `learners.py --cohort crc`; TOKEN_RUN is a run of its positive slides, of the same
tiles, extracted with `--token-side 4`. Learners are fitted out of fold on the features of tiles, and score
the tokens of positive slides that they have not seen in these ways:

    tile           the margin of the tile, at each of its tokens
    token          the instance head on the token's vector as it is
    moved          on the vector of the tile, plus the token's less the mean token's of its tile
    margin         the margin of the tile, plus the token's less the mean of those of its tile
    pupil          on the token, a ridge regression of the margins of the training's tiles on mean tokens
    pupil's tile   the same on the mean token, at each token of the tile
    pupil's place  the margin of the tile, plus the pupil's of the token less that of the mean token
    truth, tile    a ridge regression that is taught, as no learner is, how much of a tile is tumour
    truth, token   one that is taught which tokens of other slides are tumour: what could be had

A token is tumour if at least half of its own area is. Printed are AUC and AP of the tokens of all positive
slides together, AUC of those of tiles on a border, and the mean AUC within one such tile; first as they
are, then smoothed as by `heatmap --smooth-um`.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from cohorts import Task, folds
from cohorts_slides import crc
from judging import CLASSES, start_process
from scipy.special import expit
from token_slides import ENCODER, Slide

from mil.metrics import instance_ap, instance_auc
from mil.training import new_learner

SMOOTH_UM = (0, 30, 60)
PULL = 0.1  # of ridge regressions to zero, of the variance of a number
FIGURES = ("AUC", "AP", "on border", "within tile")


def ridge(vectors: Sequence[np.ndarray], told: Sequence[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a ridge regression of numbers (n,) on vectors (n, D), given slide by slide."""
    x, y = np.concatenate(vectors), np.concatenate(told).astype(np.float32)
    mean, deviation, offset = x.mean(0), x.std(0) + 1e-6, y.mean()
    x = (x - mean) / deviation
    squares = x.T @ x / len(x) + PULL * np.eye(x.shape[1], dtype=np.float32)
    slopes = np.linalg.solve(squares, x.T @ (y - offset) / len(x))
    return lambda new: ((new - mean) / deviation) @ slopes + offset


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean((1, 2), keepdims=True)


def score(task: Task, slides: dict[int, Slide], name: str, seed: int) -> dict[str, dict[int, np.ndarray]]:
    """Return scores (N, S, S) by way and slide, each by what has not seen the slide."""
    fold, found = folds(task, seed), defaultdict(dict)
    for k in range(task.n_folds):
        learner, train = new_learner(name, {}), np.flatnonzero(fold != k)
        learner.fit([task.bags[i] for i in train], task.labels[train].astype(int), CLASSES, seed=seed)
        module = learner.instance_head().eval()

        @torch.inference_mode()
        def head(vectors: np.ndarray, module: torch.nn.Module = module) -> np.ndarray:
            parts = torch.from_numpy(vectors.reshape(-1, vectors.shape[-1])).split(4096)
            return torch.cat([module(part)[:, 0] for part in parts]).numpy().reshape(vectors.shape[:-1])

        others = [slides[i] for i in train if i in slides]
        flat = [s.tokens.reshape(-1, s.tokens.shape[-1]) for s in others]
        pupil = ridge([s.means for s in others], [head(s.tiles) for s in others])
        of_tiles = ridge([s.tiles for s in others], [s.truth.mean((1, 2)) for s in others])
        of_tokens = ridge(flat, [s.truth.ravel() for s in others])
        for i in [i for i in np.flatnonzero(fold == k).tolist() if i in slides]:
            slide, tile = slides[i], head(slides[i].tiles)[:, None, None]
            token, learned = head(slide.tokens), pupil(slide.tokens)
            moved = slide.tokens + (slide.tiles - slide.means)[:, None, None]
            margins = {"tile": tile, "token": token, "moved": head(moved), "margin": tile + centred(token)}
            margins |= {"pupil": learned, "pupil's tile": pupil(slide.means)[:, None, None]}
            margins |= {"pupil's place": tile + centred(learned)}
            scores = {way: expit(each.astype(np.float64)) for way, each in margins.items()}
            scores |= {"truth, tile": of_tiles(slide.tiles)[:, None, None]}
            scores |= {"truth, token": of_tokens(slide.tokens)}
            for way, of_way in scores.items():
                found[way][i] = np.broadcast_to(of_way, slide.truth.shape)
    return found


def figures(slides: Sequence[Slide], scores: Sequence[np.ndarray]) -> list[float]:
    """Return FIGURES."""
    told, truth = (np.concatenate([v.ravel() for v in each]) for each in (scores, [s.truth for s in slides]))
    border = np.concatenate([v[s.is_border] for s, v in zip(slides, scores, strict=True)])
    known = np.concatenate([s.truth[s.is_border] for s in slides])
    border, known = (each.reshape(len(each), -1) for each in (border, known))
    above = np.sign(border[:, :, None] - border[:, None, :])
    is_pair = known[:, :, None] & ~known[:, None, :]
    within = (is_pair * (above + 1) / 2).sum((1, 2)) / is_pair.sum((1, 2))
    on_border = instance_auc(border.ravel(), known.ravel())
    return [instance_auc(told, truth), instance_ap(told, truth), on_border, float(within.mean())]


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    for name, what in {"cohort": "folder of crc_slides.py", "run": "its run", "tokens": "the other"}.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=what)
    parser.add_argument("--learners", nargs="+", default=["mean"])
    told = parser.parse_args()
    start_process()
    task, _ = crc(told.cohort, told.run, ENCODER, "normal")
    bags = {i: task.bags[i] for i in np.flatnonzero(task.labels).tolist()}
    slides = {i: Slide(bag.id, told.cohort, told.tokens, bag.features) for i, bag in bags.items()}
    counts = [(len(slide.tiles), int(slide.is_border.sum())) for slide in slides.values()]
    n_tiles, n_border = np.sum(counts, axis=0)
    print(f"{len(slides)} slides, {n_tiles} tiles, {n_border} on a border")
    for name in told.learners:
        for way, of_slides in score(task, slides, name, seed=0).items():
            for um in SMOOTH_UM:
                scores = [slides[i].smoothed(v, um) if um else v for i, v in of_slides.items()]
                row = figures([slides[i] for i in of_slides], scores)
                cells = "".join(f"  {figure} {value:.3f}" for figure, value in zip(FIGURES, row, strict=True))
                print(f"{name:<10}{way:<15}{um:>3} um{cells}", flush=True)


if __name__ == "__main__":
    main()
