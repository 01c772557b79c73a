"""Bags to predictions: cohorts, learners, evaluation, runs and the command line."""

from . import instance, pooling  # noqa: F401  being imported files its learners in the registry
from .cohort import Cohort, CohortSlide, Failure, Fold
from .demo import demo
from .evaluate import Evaluation, evaluate
from .exchange import export_run, import_coords, import_features
from .heatmaps import HeatmapConfig, heatmap
from .learner import LEARNERS, Bag, Classes, Learner, Prediction, load_learner
from .pack import Packing, pack
from .pipeline import Finished, Plan, run_all
from .predict import predict
from .prepare import ExtractConfig, Preparation, extract, tile
from .qc import qc
from .run_folder import Run
from .scores import Scores, load_scores, save_scores
from .slide_table import CohortError
from .train import TrainConfig, Training, train

__all__ = [
    "LEARNERS",
    "Bag",
    "Classes",
    "Cohort",
    "CohortError",
    "CohortSlide",
    "Evaluation",
    "ExtractConfig",
    "Failure",
    "Finished",
    "Fold",
    "HeatmapConfig",
    "Learner",
    "Packing",
    "Plan",
    "Prediction",
    "Preparation",
    "Run",
    "Scores",
    "TrainConfig",
    "Training",
    "demo",
    "evaluate",
    "export_run",
    "extract",
    "heatmap",
    "import_coords",
    "import_features",
    "load_learner",
    "load_scores",
    "pack",
    "predict",
    "qc",
    "run_all",
    "save_scores",
    "tile",
    "train",
]
