"""Whether intervals of `slidebag probe` hold chance on vectors that tell nothing of the classes.

Tiles of 30 patients, 6 each, of two classes. Vectors are drawn anew for each tile, or for each patient, who
then is of one class. Printed are how often intervals of 95 % held chance, as they are and as resampled
groups alone have them, and their mean width. The last line is JSON.

    python bench/probe_intervals.py [--repeats 60]
"""

import argparse
import json

import numpy as np

from mil.probe.config import ProbeConfig
from mil.probe.figures import NEAR, Known, figures_of
from mil.probe.parts import group_folds

N_PATIENTS, N_EACH, DIM = 30, 6, 12


def drawn(of: str, rng: np.random.Generator) -> tuple[np.ndarray, Known]:
    groups = np.repeat(np.arange(N_PATIENTS), N_EACH)
    labels = np.tile(np.arange(N_EACH) % 2, N_PATIENTS)
    if of == "patient":
        labels = rng.permutation(np.arange(N_PATIENTS) % 2)[groups]
    seen = groups if of == "patient" else np.arange(len(groups))
    vectors = rng.normal(size=(seen.max() + 1, DIM))[seen] + 0.05 * rng.normal(size=(len(groups), DIM))
    return vectors.astype(np.float32), Known(("a", "b"), labels, groups, groups % 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=60)
    told: dict[str, dict[str, float]] = {}
    for of in ("tile", "patient"):
        held: dict[str, list[tuple[bool, bool, float]]] = {}
        for repeat in range(parser.parse_args().repeats):
            vectors, known = drawn(of, np.random.default_rng(repeat))
            folds = group_folds(known.labels, known.groups, 5, seed=repeat, least_groups=2)
            frame, _ = figures_of(vectors, known, folds, ProbeConfig(seed=repeat))
            for row in frame.to_dict("records"):
                value, chance, ends = row["value"], row["chance"], np.array([row["low"], row["high"]])
                parts = N_PATIENTS if row["method"] == NEAR else len(folds)
                plain = value + (ends - value) / np.sqrt(1 + parts / (parts - 1))
                if row["method"].startswith("few_shot"):
                    plain = ends  # these are not widened
                name = f"{row['method']} {row['figure']}"
                hits = (bool(e[0] <= chance <= e[1]) for e in (ends, plain))
                held.setdefault(name, []).append((*hits, float(ends[1] - ends[0])))
        for name, rows in held.items():
            mean = np.mean(np.array(rows, float), axis=0).round(3).tolist()
            told[f"{of} {name}"] = dict(zip(("held", "held_unwidened", "width"), mean, strict=True))
            print(
                f"{of:8} {name:32} held {mean[0]:.2f}, unwidened {mean[1]:.2f}, width {mean[2]:.2f}",
                flush=True,
            )
    print(json.dumps(told))


if __name__ == "__main__":
    main()
