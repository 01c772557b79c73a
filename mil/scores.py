"""Scores: one HDF5 file a slide, a probability per tile and class in the grid's order (docs/formats.md)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tiling import (
    FormatError,
    TileGrid,
    grid_attributes,
    open_checked,
    read_array,
    read_header,
    refuse_other_tiles,
    replacing_hdf5,
    write_coords,
    write_header,
)

from .calibration import Lines

_MEASURES = ("novelty", "max_logit", "prototype_distance")  # of how unlike the training a tile is


@dataclass(frozen=True)
class Scores:
    """Scores of a slide's tiles: `probability` float32 (N, C), NaN if unread; `prototype` int16 (N,).

    `calibration` are the lines that led to `probability`, None where it is as the learner has it.
    `novelty` float32 (N,) is above 1 where a tile is unlike the training, `max_logit` and
    `prototype_distance` as in `Prediction` and `mil.model.novelty`; None where nobody measured.
    """

    slide_id: str
    classes: tuple[str, ...]
    probability: np.ndarray
    prototype: np.ndarray
    learner: str
    fingerprint: str
    calibration: Lines | None = None
    novelty: np.ndarray | None = None
    max_logit: np.ndarray | None = None
    prototype_distance: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"Scores({self.slide_id!r}, {len(self.probability)} tiles × p({'), p('.join(self.classes)}))"


def save_scores(scores: Scores, grid: TileGrid, path: Path, *, model_fingerprint: str) -> None:
    """Write the scores of a grid's tiles, whole or not at all.

    Raises:
        ValueError: there is not one row a tile.
    """
    if not len(grid) == len(scores.probability) == len(scores.prototype):
        raise ValueError(f"{scores.slide_id}: {len(scores.probability)} scores for {len(grid)} tiles")
    with replacing_hdf5(path) as file:
        file["probability"] = scores.probability.astype(np.float32)
        file["prototype"] = scores.prototype.astype(np.int16)
        for name in _MEASURES:
            if (measured := getattr(scores, name)) is not None:
                file[name] = measured.astype(np.float32)
        write_coords(file, grid)
        told = {
            "learner": scores.learner,
            "model_fingerprint": model_fingerprint,
            "classes": list(scores.classes),
            "is_calibrated": scores.calibration is not None,
            "calibration": json.dumps(asdict(scores.calibration) if scores.calibration else None),
            "config": {"learner": scores.learner},
            "fingerprint": scores.fingerprint,
        }
        write_header(file, "scores", grid_attributes(grid) | told)


def load_scores(path: Path, *, grid: TileGrid | None = None) -> Scores:
    """Read the scores of one slide; where a `grid` is given, it has to be the one that they are of.

    Raises:
        FormatError: the file is absent, damaged, of another kind or version, or its rows do not match.
    """
    with open_checked(path, "scores") as file:
        if grid is not None:
            refuse_other_tiles(file, grid)
        told = read_header(file)
        probability, prototype = read_array(file, "probability"), read_array(file, "prototype")
        measures = {name: read_array(file, name) for name in _MEASURES if name in file}
        n_tiles = len(read_array(file, "coords"))
    if not n_tiles == len(probability) == len(prototype):
        raise FormatError(
            f"{path}: {len(probability)} scores for {n_tiles} tiles", hint="predict this slide again"
        )
    return Scores(
        slide_id=str(told["slide_id"]),
        classes=tuple(told["classes"]),
        probability=probability,
        prototype=prototype,
        learner=str(told["learner"]),
        fingerprint=str(told["fingerprint"]),
        calibration=_lines(told.get("calibration")),
        **measures,
    )


def _lines(told: str | None) -> Lines | None:
    found = json.loads(told) if told else None
    return None if found is None else Lines.of(found)
