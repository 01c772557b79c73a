"""What a learner says of validation bags: all that calibration, thresholds and sets are chosen from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mil.classes import Labels
from mil.learner import Prediction
from mil.model_files import read_tensors, read_words, write_tensors

from .lines import margins_of

_FILE = "held_out.safetensors"
_MOST_TILES = 4096  # kept of a bag, evenly over its order of suspicion


@dataclass(frozen=True)
class HeldOut:
    """Predictions of bags that the learner was not fitted on, before calibration.

    `labels` int64 (B,) and `margins` float64 (B, C - 1) of the bags, or where classes do not exclude each
    other bool (B, C) and (B, C); `tile_margins` float32 (n, K) a bag; `profiles` float32
    (B, 200), how far their tiles lie from the training (`mil.model.novelty`). `n_epochs` is how many they
    chose for the fit, 0 if it does not stop early; `warnings` are those of the fit that they were held out
    from.
    """

    labels: np.ndarray
    margins: np.ndarray
    tile_margins: tuple[np.ndarray, ...]
    profiles: np.ndarray
    n_epochs: int = 0
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        predictions: Sequence[Prediction],
        labels: Labels | np.ndarray,
        profiles: np.ndarray,
        n_epochs: int = 0,
        warnings: Sequence[str] = (),
    ) -> "HeldOut":
        """Keep what `predictions` say of bags with these labels; bags without tiles say nothing."""
        truth = np.asarray(labels)
        is_filled = np.array([len(p.tile_probability) > 0 for p in predictions])
        return cls(
            truth[is_filled],
            margins_of(np.stack([p.probability for p in predictions]), is_exclusive=truth.ndim == 1)[
                is_filled
            ],
            tuple(
                _some(margins_of(p.tile_probability).astype(np.float32))
                for p in predictions
                if len(p.tile_probability)
            ),
            profiles[is_filled],
            n_epochs,
            tuple(warnings),
        )

    @classmethod
    def pooled(cls, parts: Sequence["HeldOut"]) -> "HeldOut":
        """Return the bags of several folds as one: each was held out once; of their epochs, the median."""
        return cls(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.margins for part in parts]),
            tuple(tiles for part in parts for tiles in part.tile_margins),
            np.concatenate([part.profiles for part in parts]),
            round(np.median([part.n_epochs for part in parts])),
        )

    def save(self, folder: Path, fingerprint: str = "") -> None:
        """Write held_out.safetensors into a model's folder, with the fingerprint of what said it."""
        n_margins = self.tile_margins[0].shape[1] if self.tile_margins else 1
        told = {
            "labels": self.labels,
            "margins": self.margins,
            "profiles": self.profiles,
            "counts": np.array([len(tiles) for tiles in self.tile_margins], np.int64),
            "tile_margins": np.concatenate([np.zeros((0, n_margins), np.float32), *self.tile_margins]),
        }
        words = {"fingerprint": fingerprint, "n_epochs": self.n_epochs, "warnings": self.warnings}
        write_tensors(folder / _FILE, told, **words)

    @staticmethod
    def is_there(folder: Path, fingerprint: str) -> bool:
        """Whether a whole file of this very fingerprint is there."""
        return read_words(folder / _FILE).get("fingerprint") == fingerprint

    @classmethod
    def load(cls, folder: Path) -> "HeldOut":
        """Read held_out.safetensors.

        Raises:
            FormatError: it is not there, or damaged.
        """
        told = read_tensors(folder / _FILE)
        words = read_words(folder / _FILE)
        also = (words.get("n_epochs", 0), tuple(words.get("warnings", ())))
        ends = told["counts"].cumsum()
        tiles = np.split(told["tile_margins"], ends[:-1]) if len(ends) else []
        return cls(told["labels"], told["margins"], tuple(tiles), told["profiles"], *also)


def _some(margins: np.ndarray) -> np.ndarray:
    """At most so many rows, in the order of their strongest margin and evenly over it."""
    order = np.argsort(margins.max(axis=1), kind="stable")
    places = np.linspace(0, len(order) - 1, min(len(order), _MOST_TILES)).round().astype(int)
    return margins[order[places]]
