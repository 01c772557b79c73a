"""The bags of a run as learners take them: readable tiles only, all from one encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features import load_features
from tiling import FormatError, SlidebagError

from .cohort import CohortSlide
from .learner import Bag, Prediction
from .run_folder import Run


@dataclass(frozen=True)
class LoadedBag:
    """A learner's bag, which rows of the grid it holds, and the fingerprint of the file it is from."""

    bag: Bag
    readable: np.ndarray  # bool (N,), N rows of the grid
    encoder: str
    encoder_fingerprint: str
    fingerprint: str

    def spread(self, prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
        """Return probability (N, T) and prototype (N,) on the whole grid; NaN and -1 where unreadable."""
        n_tiles, n_classes = len(self.readable), prediction.tile_probability.shape[1]
        probability = np.full((n_tiles, n_classes), np.nan, np.float32)
        prototype = np.full(n_tiles, -1, np.int16)
        probability[self.readable] = prediction.tile_probability
        prototype[self.readable] = prediction.prototype
        return probability, prototype


def load_bag(path: Path) -> LoadedBag:
    """Read one feature bag for a learner; raises FormatError as `load_features` does."""
    stored = load_features(path)
    readable = ~stored.unreadable
    features = stored.features if readable.all() else stored.features[readable]
    return LoadedBag(
        Bag(stored.slide_id, features),
        readable,
        stored.encoder,
        stored.encoder_fingerprint,
        stored.fingerprint,
    )


def load_bags(run: Run, encoder: str, slides: Sequence[CohortSlide]) -> list[LoadedBag]:
    """Read the bags of some slides of a run.

    Raises:
        SlidebagError: a bag is missing, or the bags are of different encoders or weights.
    """
    bags = []
    for slide in slides:
        path = run.features_path(encoder, slide.slide_id)
        if not path.is_file():
            raise FormatError(
                f"{slide.slide_id}: has no features of {encoder!r} in {run.root}",
                hint=f"run `slidebag extract {run.root} --encoder {encoder}`",
            )
        bags.append(load_bag(path))
        if bags[-1].encoder_fingerprint != bags[0].encoder_fingerprint:
            raise SlidebagError(
                f"{slide.slide_id}: its features are of other weights than those of {slides[0].slide_id}",
                hint="extract all slides of the run with the same encoder and weights",
            )
    return bags
