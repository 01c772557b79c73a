"""Bags to predictions: cohorts, learners, evaluation, runs and the command line."""

from .classes import Classes
from .cohort import Cohort, CohortSlide, Failure, Fold
from .demo import demo
from .evaluate import Evaluation, evaluate
from .exchange import export_run, import_coords, import_features
from .export_model import export_model
from .extract import ExtractConfig, extract
from .heatmap_files import HeatmapConfig
from .heatmaps import heatmap
from .learner import LEARNERS, Bag, Learner, Prediction, load_learner
from .pack import Packing, pack
from .pipeline import Finished, Plan, run_all
from .predict import PredictConfig, predict
from .prepare import Preparation, tile
from .qc import qc
from .regrid import regrid_run
from .run_folder import Run
from .scores import Scores, load_scores, save_scores
from .search import Found, SearchConfig, open_index, search
from .search_query import ImageQuery, RegionQuery, TileQuery
from .slide_table import CohortError
from .train import Training, train
from .train_config import FitConfig, TrainConfig
from .view import ViewConfig, view

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
    "FitConfig",
    "Fold",
    "Found",
    "HeatmapConfig",
    "ImageQuery",
    "Learner",
    "Packing",
    "Plan",
    "PredictConfig",
    "Prediction",
    "Preparation",
    "RegionQuery",
    "Run",
    "Scores",
    "SearchConfig",
    "TileQuery",
    "TrainConfig",
    "Training",
    "ViewConfig",
    "demo",
    "evaluate",
    "export_model",
    "export_run",
    "extract",
    "heatmap",
    "import_coords",
    "import_features",
    "load_learner",
    "load_scores",
    "open_index",
    "pack",
    "predict",
    "qc",
    "regrid_run",
    "run_all",
    "save_scores",
    "search",
    "tile",
    "train",
    "view",
]

# what needs torch is imported with the first learner that is asked for
LEARNERS.expect("mil.pooling", "mean", "max", "mix", "noisy_or")
LEARNERS.expect("mil.baselines.abmil", "abmil", "gated_abmil")
LEARNERS.expect("mil.baselines.clam", "clam_sb", "clam_mb")
LEARNERS.expect("mil.baselines.dsmil", "dsmil")
LEARNERS.expect("mil.baselines.dtfd", "dtfd")
LEARNERS.expect("mil.baselines.transmil", "transmil")
LEARNERS.expect("mil.instance.learner", "slidebag")
