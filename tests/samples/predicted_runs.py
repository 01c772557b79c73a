"""Runs of predictions alone, whose answer is known."""

from pathlib import Path

import numpy as np
import pandas as pd

from mil import Run


def names_of(labels):
    return sorted({name for label in labels for name in label.split(";") if name})


def write_run(
    root: Path, labels, probability, *, patients=None, ids=None, called=None, folds=None, names=None
) -> Run:
    """A run of predictions alone: `probability` (B, C) for the sorted names of the labels."""
    run, names = Run.create(root), names or names_of(labels)
    probability = np.asarray(probability, float)
    n, several = len(labels), any(";" in label for label in labels)
    ids = ids or [f"slide-{k:03d}" for k in range(n)]
    if called is None:
        called = [names[k] for k in probability.argmax(1)] if n else []
    patients = patients or ids
    told = {
        "slide_id": ids,
        "path": [f"/nowhere/{k}.svs" for k in range(n)],
        "patient_id": patients,
        "label": labels,
    }
    empty = {"mpp": "", "split": "", "n_tiles": "9", "status": "extracted", "message": ""}
    run.write_table("slides.csv", pd.DataFrame(told | empty, columns=[*told, *empty]))
    rows = {"slide_id": ids, "label": labels}
    for what in ("p", "uncalibrated"):
        rows |= {f"{what}({name})": probability[:, c] for c, name in enumerate(names)}
    rows |= {"prediction": called, "set": ["|".join(names)] * n}
    rows |= {"threshold": ["0.5;0.5" if several else "0.5"] * n, "tile_threshold": ["0.5"] * n}
    rows |= {"fold": folds or [str(k % 3) for k in range(n)], "flags": [""] * n}
    run.write_table("predictions.csv", pd.DataFrame(rows))
    return run


def two_classes(
    root: Path, n: int = 60, *, spread: float = 0.35, seed: int = 0, names=("normal", "tumour"), **more
) -> Run:
    """Such a run of two classes in turn."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    p = np.clip(truth * 0.4 + 0.3 + rng.normal(0, spread, n), 0.001, 0.999)
    labels = [names[t] for t in truth]
    return write_run(root, labels, np.stack([1 - p, p], 1), names=names, **more)
