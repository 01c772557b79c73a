"""The calibration of a model: chosen once on held-out bags, kept in calibration.json, then frozen."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mil.learner import Classes
from mil.metrics import choose_threshold, choose_tile_threshold
from tiling import FormatError, replacing

from .held_out import HeldOut
from .lines import Lines, to_probability
from .sets import ClassSets
from .slides import slide_lines
from .tiles import tile_lines

LEAST_BAGS = 3  # held out of each class: below that nothing is calibrated
_FILE, _VERSION = "calibration.json", 1


@dataclass(frozen=True)
class Calibration:
    """Lines for slides and for tiles, None where too little was held out, and the sets of classes.

    `held_out` counts the bags by class that it was chosen on.
    """

    slides: Lines | None
    tiles: Lines | None
    sets: ClassSets
    held_out: tuple[int, ...]

    def slide(self, probability: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities of slides, float32 (B, C)."""
        return probability if self.slides is None else self.slides(probability)

    def tile(self, probability: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities of tiles, float32 (N, T)."""
        return probability if self.tiles is None else self.tiles(probability)

    def save(self, folder: Path) -> None:
        """Write calibration.json into a model's folder."""
        told = {"format": "slidebag.calibration", "format_version": _VERSION, **asdict(self)}
        with replacing(folder / _FILE) as temporary:
            temporary.write_text(json.dumps(told, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Calibration":
        """Read calibration.json.

        Raises:
            FormatError: there is none, it is damaged, or of a newer version.
        """
        path = folder / _FILE
        if not path.is_file():
            raise FormatError(f"{folder}: has no {_FILE}", hint="train again")
        try:
            told = json.loads(path.read_text())
            if told["format_version"] > _VERSION:
                raise FormatError(
                    f"{path}: format version {told['format_version']}, this slidebag reads up to {_VERSION}",
                    hint="upgrade slidebag or train again with this version",
                )
            sets = told["sets"]
            return cls(
                _lines(told["slides"]),
                _lines(told["tiles"]),
                ClassSets(sets["level"], tuple(sets["least"]), sets["by_class"]),
                tuple(told["held_out"]),
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise FormatError(f"{path}: damaged ({error!r})", hint="train again") from error


def _lines(told: dict | None) -> Lines | None:
    return None if told is None else Lines(tuple(told["slopes"]), tuple(told["offsets"]))


@dataclass(frozen=True)
class Frozen:
    """A calibration and the thresholds on its scale; of more than two classes slides have none."""

    calibration: Calibration
    slide_threshold: float | None
    tile_threshold: float


def calibrate(held_out: HeldOut, classes: Classes, level: float) -> Frozen:
    """Choose calibration, sets of classes at `level` and thresholds from bag labels alone."""
    counts = np.bincount(held_out.labels, minlength=len(classes.names))
    has_enough = counts.min() >= LEAST_BAGS
    calibration = Calibration(
        slide_lines(held_out.margins, held_out.labels) if has_enough else None,
        tile_lines(held_out.tile_margins, held_out.labels) if has_enough and classes.has_negative else None,
        ClassSets.of(held_out.margins, held_out.labels, level),
        tuple(counts.tolist()),
    )
    slides = calibration.slide(to_probability(held_out.margins))
    tiles = [calibration.tile(to_probability(m))[:, 1:].sum(axis=1) for m in held_out.tile_margins]
    is_positive = held_out.labels > 0 if classes.has_negative else np.ones(len(held_out.labels), bool)
    slide_threshold = None
    if classes.has_negative and len(classes.names) == 2:
        slide_threshold = choose_threshold(slides[:, 1], is_positive)
    return Frozen(calibration, slide_threshold, choose_tile_threshold(tiles, is_positive))
