"""What a learner is fitted on: the instances of one slide or patient."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features import Place, map_rows, place_of
from tiling import SlidebagError

_CHUNK = 4096  # instances looked at at once


@dataclass(frozen=True)
class Bag:
    """All instances of one slide or patient: `features` (N, D) float16 or float32, one row a tile.

    `candidates` bool (N, T), if any, says which tile classes each instance may have: annotations that a
    user gave for training, beyond the label. They are not the truth that figures are measured by, and no
    prediction reads them. `views` (N, K, D), if any, are features of K augmented views of each tile, in the
    same type: training draws from them and the plain ones, prediction reads the plain ones alone. Bags of one
    `patient` are never on both sides where a fit holds some of them out; without a name each is of a
    patient of its own.
    """

    id: str
    features: np.ndarray
    candidates: np.ndarray | None = field(default=None, kw_only=True)
    views: np.ndarray | None = field(default=None, kw_only=True)
    patient: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        told = self.candidates
        if told is not None and (
            told.ndim != 2 or told.dtype != bool or len(told) != len(self) or not told.any(axis=1).all()
        ):
            raise SlidebagError(
                f"{self.id}: candidates are {told.dtype} of shape {told.shape}",
                hint="give bool (N, T), a class or more for each instance",
            )
        if self.features.ndim != 2:
            raise SlidebagError(
                f"{self.id}: features have shape {self.features.shape}", hint="give one row a tile: (N, D)"
            )
        views = self.views
        if views is not None and (
            views.ndim != 3
            or views.shape[::2] != self.features.shape
            or not views.shape[1]
            or views.dtype != self.features.dtype
        ):
            raise SlidebagError(
                f"{self.id}: views are {views.dtype} of shape {views.shape}, "
                f"features {self.features.dtype} of {self.features.shape}",
                hint="give as many views of each tile, (N, K, D), in the type of the features",
            )

    def __len__(self) -> int:
        return len(self.features)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs of the bag: of mapped features and views only where they lie."""
        places = {name: place_of(rows) for name, rows in self.numbers.items()}
        return vars(self) | {name: place for name, place in places.items() if place is not None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take it over there, and map such features again."""
        places = {name: told for name, told in state.items() if isinstance(told, Place)}
        vars(self).update(state, **{name: map_rows(*place) for name, place in places.items()})

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """Return what may lie in files and be mapped: "features", and "views" if there are any."""
        return {"features": self.features} | ({} if self.views is None else {"views": self.views})


def check_features(bag: Bag, dim: int, why: str) -> None:
    """Raise SlidebagError if the features are not of `dim`, or not finite."""
    if bag.features.shape[1] != dim:
        raise SlidebagError(
            f"{bag.id}: features have dim {bag.features.shape[1]}, wanted {dim}, {why}",
            hint="extract them with the same encoder",
        )
    for name, rows in bag.numbers.items():
        n_tiles = max(1, _CHUNK // math.prod(rows.shape[1:-1]))  # views are several rows a tile
        parts = (rows[start : start + n_tiles] for start in range(0, len(bag), n_tiles))
        n_broken = sum(int((~np.isfinite(part)).reshape(len(part), -1).any(axis=1).sum()) for part in parts)
        if n_broken:
            raise SlidebagError(
                f"{bag.id}: {name} are not finite in {n_broken} of {len(bag)} instances",
                hint="extract them again",
            )
