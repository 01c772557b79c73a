"""The calibration of a model: chosen once on held-out bags, kept in calibration.json, then frozen."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mil.classes import Classes, multi_hot
from mil.metrics import choose_threshold, choose_tile_threshold, log_loss, slide_auc
from mil.model_files import read_versioned
from tiling import FormatError, replacing

from .held_out import HeldOut
from .lines import Lines, exact_probability, to_probability
from .sets import ClassSets
from .slides import slide_lines
from .tiles import tile_lines

LEAST_BAGS = 3  # held out of each class, and not of it: below that nothing is calibrated
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
            told = read_versioned(path, _VERSION)
            sets = told["sets"]
            return cls(
                _lines(told["slides"]),
                _lines(told["tiles"]),
                ClassSets(**sets | {"least": tuple(sets["least"])}),
                tuple(told["held_out"]),
            )
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: damaged ({error!r})", hint="train again") from error


def _lines(told: dict | None) -> Lines | None:
    return None if told is None else Lines.of(told)


@dataclass(frozen=True)
class Frozen:
    """A calibration and the thresholds on its scale; slides have one for each class that decides alone."""

    calibration: Calibration
    slide_thresholds: tuple[float, ...]
    tile_threshold: float


def _is_enough(truth: np.ndarray) -> bool:
    counts = truth.sum(axis=0)
    return min(counts.min(), (len(truth) - counts).min()) >= LEAST_BAGS


def slide_figures(margins: np.ndarray, labels: np.ndarray, classes: Classes) -> dict[str, float]:
    """Return `log_loss` and `slide_auc` of held-out bags, calibrated on themselves as a model's are.

    How sure a learner is of itself is not what is asked: calibration puts that right. `margins` (B, C - 1),
    or (B, C) where classes do not exclude each other, as `HeldOut` has them; NaN where undefined.
    """
    lines = slide_lines(margins, labels) if len(labels) and _is_enough(multi_hot(labels, classes)) else None
    calibrated = margins if lines is None else margins * lines.slopes + lines.offsets
    probability = exact_probability(calibrated, is_exclusive=classes.is_exclusive)
    return {"log_loss": log_loss(probability, labels), "slide_auc": slide_auc(probability, labels)}


def calibrate(held_out: HeldOut, classes: Classes, level: float) -> Frozen:
    """Choose calibration, sets of classes at `level` and thresholds from bag labels alone."""
    truth = multi_hot(held_out.labels, classes)
    has_enough = _is_enough(truth)
    # a tile of another class of the same bag is like no negative one: the mixture tells nothing of it
    knows_tiles = has_enough and classes.has_negative and classes.is_exclusive
    calibration = Calibration(
        slide_lines(held_out.margins, held_out.labels) if has_enough else None,
        tile_lines(held_out.tile_margins, held_out.labels) if knows_tiles else None,
        ClassSets.of(held_out.margins, held_out.labels, level),
        tuple(truth.sum(axis=0).tolist()),
    )
    slides = calibration.slide(to_probability(held_out.margins, is_exclusive=classes.is_exclusive))
    tiles = [calibration.tile(to_probability(m))[:, 1:].sum(axis=1) for m in held_out.tile_margins]
    is_positive = ~truth[:, 0] if classes.has_negative else np.ones(len(truth), bool)
    slide_thresholds = tuple(choose_threshold(slides[:, c], truth[:, c]) for c in classes.decided_alone)
    return Frozen(calibration, slide_thresholds, choose_tile_threshold(tiles, is_positive))
