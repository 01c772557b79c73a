"""Bags whose truth is known, as a run would load them, and the models of a training on them."""

from pathlib import Path

import numpy as np

from features import EncoderConfig
from mil import Bag, Classes, Fold, Preparation, TrainConfig
from mil.bags import LoadedBag, SlideRows
from mil.training.fold_models import FoldModels
from tiling import GridConfig, TissueConfig

CLASSES = Classes(("normal", "tumour"), has_negative=True)
N_FOLDS = 3


def loaded_bags(n_bags: int = 18, n_tiles: int = 20, dim: int = 6, shift: float = 2.0) -> list[LoadedBag]:
    """Gaussian bags; odd ones are of tumour, and a third of their tiles is moved along one axis."""
    draw = np.random.default_rng(5)
    bags = []
    for i in range(n_bags):
        features = draw.normal(size=(n_tiles, dim)).astype(np.float32)
        features[: n_tiles // 3 * (i % 2), 0] += shift
        rows = SlideRows(f"slide {i}", np.ones(n_tiles, bool), f"file {i}")
        bags.append(LoadedBag(Bag(f"slide {i}", features), CLASSES.names[i % 2], (rows,), "encoder"))
    return bags


def folds_of(n_bags: int) -> list[Fold]:
    """Folds of neighbouring pairs, so that each part has both classes."""
    parts = [tuple(i for i in range(n_bags) if i // 2 % N_FOLDS == k) for k in range(N_FOLDS)]
    return [
        Fold(str(k), parts[(k + 2) % N_FOLDS], parts[(k + 1) % N_FOLDS], parts[k]) for k in range(N_FOLDS)
    ]


def fold_models(base: Path, learner: str = "mean", settings: dict | None = None, **more) -> FoldModels:
    """The models of a training on `loaded_bags`, nothing of which is fitted."""
    bags = more.pop("bags", None) or loaded_bags()
    preparation = Preparation(GridConfig(), TissueConfig(), EncoderConfig(), "float32")
    config = TrainConfig(learner=learner, folds=N_FOLDS)
    told = {"epochs": "5"} if settings is None else settings
    folds = more.pop("folds", None) or folds_of(len(bags))
    return FoldModels(base, config, told, preparation, CLASSES, bags, folds, **more)
