"""The embedded encoder beside DINOv2's whole ViT-S/14, `stain-stats` and itself untrained, on real tiles.

    python bench/encoders.py --tiles OUT/held_out --weights dinov2_vits14.safetensors [--rounds 5]
    python bench/encoders.py --tiles OUT/learn --weights dinov2_vits14.safetensors [--turns 8]

OUT is what bench/encoder_tiles.py wrote; by OUT/learn is decided what the encoder is to be. With --turns a
tile's vector is the mean over so many of its turns, the fifth to eighth of which are flipped.

Figures are of a linear probe as `slidebag probe` makes it: logistic regression on 4 of 5 parts, whose
strength is chosen within them; parts have whole patients (idc), whole hundreds of picture numbers (crc) or
pictures of different sources (lung). crc_auc is healthy against adenocarcinoma, crc5_acc and lung_acc are
balanced accuracies of 5 and 3 classes, idc_auc is carcinoma or not; `mean` is that of the four. Beside the
difference of two means stands its interval of 95 %, of 1,000 resamples of the groups of each archive, the
same ones for its tasks and for both encoders.

Patches per second are of CPU time, as of a machine to oneself: patches / (CPU seconds / threads), the median
of rounds in which all encoders take turns; `stain-stats` has one thread. The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from features import Encoder, EncoderConfig, TileFolder, find_encoder, load_encoder
from features.encoder_folder import save_encoder_folder
from features.network import create_trunk
from features.pretraining.views import turned
from mil.probe.methods import linear
from mil.probe.parts import group_folds

SIDE_PX = 224
_BATCH = 32
_RESAMPLES = 1000


@dataclass(frozen=True)
class Task:
    """Pictures of some classes of an archive, and how well they are told apart."""

    name: str
    archive: str
    classes: tuple[str, ...]

    def figure(self, truth: np.ndarray, probability: np.ndarray) -> float:
        """Return the AUC of two classes or, of more, the balanced accuracy."""
        if len(self.classes) == 2:
            return float(roc_auc_score(truth, probability[:, 1]))
        return float(balanced_accuracy_score(truth, probability.argmax(axis=1)))


TASKS = (
    Task("crc_auc", "crc", ("AC", "H")),
    Task("crc5_acc", "crc", ("AC", "H", "S", "T", "V")),
    Task("lung_acc", "lung", ("lung_aca", "lung_n", "lung_scc")),
    Task("idc_auc", "idc", ("class0", "class1")),
)


def untrained(name: str, folder: Path) -> str:
    """Write an encoder's network with random weights into `folder`; return its path."""
    entry = find_encoder(name)
    torch.manual_seed(0)
    architecture = entry.load.architecture  # pyright: ignore[reportFunctionMemberAccess]
    save_encoder_folder(folder, create_trunk(architecture, entry.card), entry.card, architecture)
    return str(folder)


def encode(encoder: Encoder, tiles: TileFolder, n_turns: int) -> np.ndarray:
    vectors = [
        np.mean([encoder.encode(turned(patches, way)) for way in range(n_turns)], axis=0)
        for patches in tiles.patches(SIDE_PX, _BATCH)
    ]
    return np.concatenate(vectors)


@dataclass(frozen=True)
class Probed:
    """Of a task: truth int (n,), groups int (n,) of its archive, and what was told of tiles, (n, classes)."""

    truth: np.ndarray
    groups: np.ndarray
    probability: np.ndarray


def probe(vectors: np.ndarray, tiles: TileFolder, task: Task) -> Probed:
    rows = np.array([k for k, label in enumerate(tiles.labels) if label in task.classes])
    truth = np.array([task.classes.index(tiles.labels[k]) for k in rows])
    groups = np.unique(tiles.groups, return_inverse=True)[1][rows]
    folds = group_folds(truth, groups, 5, seed=0)
    return Probed(truth, groups, linear(vectors[rows], truth, groups, folds, 0)[0])


def margin(one: dict[str, Probed], other: dict[str, Probed]) -> list[float]:
    """Return how far the mean figure of `one` lies above that of `other`, and its interval of 95 %."""
    n_groups: dict[str, int] = {}
    for task in TASKS:
        n_groups[task.archive] = max(n_groups.get(task.archive, 0), int(one[task.name].groups.max()) + 1)
    draw = np.random.default_rng(0)
    found = [_gain(one, other, {archive: np.ones(n, int) for archive, n in n_groups.items()})]
    for _ in range(_RESAMPLES):
        times = {a: np.bincount(draw.integers(0, n, n), minlength=n) for a, n in n_groups.items()}
        found.append(_gain(one, other, times))
    return [found[0], *np.percentile(found[1:], [2.5, 97.5])]


def _gain(one: dict[str, Probed], other: dict[str, Probed], times: dict[str, np.ndarray]) -> float:
    """Return the difference of the means where each group of an archive is taken so many times."""
    gains = []
    for task in TASKS:
        a, b = one[task.name], other[task.name]
        rows = np.repeat(np.arange(len(a.truth)), times[task.archive][a.groups])
        gains.append(
            task.figure(a.truth[rows], a.probability[rows]) - task.figure(b.truth[rows], b.probability[rows])
        )
    return float(np.mean(gains))


def rates(encoders: dict[str, Encoder], patches: np.ndarray, rounds: int) -> dict[str, float]:
    """Return patches per second of each encoder, all taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in encoders}
    for encoder in encoders.values():
        encoder.encode(patches)  # warms up
    for _ in range(rounds):
        for name, encoder in encoders.items():
            n_threads = 1 if encoder.engine == "numpy" else torch.get_num_threads()
            taken[name].append(_cpu_s(lambda encoder=encoder: encoder.encode(patches)) / n_threads)
    return {name: len(patches) / float(np.median(times)) for name, times in taken.items()}


def _cpu_s(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def compared(embedded: str, weights: Path, folder: Path) -> dict[str, Encoder]:
    """Load what is compared; the untrained one is written to `folder`."""
    configs = {
        "embedded": EncoderConfig(encoder=embedded),
        "dinov2_vits14": EncoderConfig(encoder="dinov2-vits14", weights=str(weights)),
        "stain_stats": EncoderConfig(encoder="stain-stats"),
        "untrained": EncoderConfig(encoder=untrained(embedded, folder)),
    }
    return {name: load_encoder(config) for name, config in configs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=Path, required=True, help="of bench/encoder_tiles.py, one side")
    parser.add_argument("--weights", type=Path, required=True, help="DINOv2 ViT-S/14's")
    parser.add_argument("--embedded", default="embedded", help="another folder of an encoder in its place")
    parser.add_argument("--turns", type=int, choices=range(1, 9), default=1, metavar="1..8")
    parser.add_argument("--rounds", type=int, default=5)
    told = parser.parse_args()
    archives = {task.archive for task in TASKS}
    tiles = {name: TileFolder.open(told.tiles / f"{name}.csv") for name in sorted(archives)}
    some = next(tiles["crc"].patches(SIDE_PX, 2 * _BATCH))
    with tempfile.TemporaryDirectory() as folder:
        encoders = compared(told.embedded, told.weights, Path(folder) / "untrained")
        speed = rates(encoders, some, told.rounds)
        probed: dict[str, dict[str, Probed]] = {}
        table: dict[str, dict[str, Any]] = {}
        print(f"{'encoder':<15}" + "".join(f"{name:>10}" for name in [t.name for t in TASKS]), end="")
        print(f"{'mean':>10}{'patches/s':>11}")
        for name, encoder in encoders.items():
            vectors = {archive: encode(encoder, of, told.turns) for archive, of in tiles.items()}
            probed[name] = {t.name: probe(vectors[t.archive], tiles[t.archive], t) for t in TASKS}
            figures = {
                t.name: t.figure(p.truth, p.probability)
                for t, p in zip(TASKS, probed[name].values(), strict=True)
            }
            mean = float(np.mean(list(figures.values())))
            table[name] = figures | {"mean": mean, "patches_per_s": speed[name]}
            print(f"{name:<15}" + "".join(f"{v:>10.3f}" for v in (*figures.values(), mean)), end="")
            print(f"{speed[name]:>11.1f}", flush=True)
    for name in ("dinov2_vits14", "stain_stats", "untrained"):
        found = margin(probed["embedded"], probed[name])
        table["embedded"][f"mean_over_{name}"] = found
        print(f"mean of embedded over {name}: {found[0]:+.3f} ({found[1]:+.3f} to {found[2]:+.3f})")
    ratio = speed["embedded"] / speed["dinov2_vits14"]
    table["embedded"]["rate_over_dinov2_vits14"] = ratio
    print(f"patches/s of embedded over dinov2_vits14: {ratio:.2f}")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
