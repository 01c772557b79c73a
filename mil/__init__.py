"""Bags to predictions: cohorts, learners, evaluation, runs and the command line."""

from .bag import Bag
from .classes import Classes
from .cohort import Cohort, CohortSlide, Failure, Fold
from .demo import demo
from .evaluate import Evaluation, evaluate
from .exchange import export_run, import_coords, import_features
from .extract import ExtractConfig, extract
from .heatmap_files import HeatmapConfig
from .heatmaps import heatmap
from .learner import LEARNERS, Learner, Prediction, load_learner
from .model import export_model
from .pack import Packing, pack
from .pipeline import Finished, Plan, run_all
from .predict import PredictConfig, predict
from .prepare import Preparation, tile
from .probe import ProbeConfig, Probed, probe
from .qc import qc
from .regrid import regrid_run
from .report import (
    Comparison,
    Predicted,
    Report,
    SlideDetections,
    SlideTruth,
    TileTruths,
    attrition_table,
    auc_interval,
    batch_effect_table,
    calibration_curves,
    calibration_figure,
    calibration_table,
    class_table,
    column_of,
    comparison_table,
    confusion_figure,
    confusion_table,
    decision_curves,
    decision_figure,
    delong,
    delong_test,
    fold_table,
    froc_curve,
    froc_figure,
    froc_table,
    group_names,
    group_table,
    groups_figure,
    headline_table,
    load_predicted,
    load_truth,
    lost_slides,
    mistake_table,
    precision_recall_curves,
    precision_recall_figure,
    probability_figure,
    proportion_interval,
    report,
    roc_curves,
    roc_figure,
    tile_table,
)
from .run_folder import Run
from .scores import Scores, load_scores, save_scores
from .search import Found, ImageQuery, RegionQuery, SearchConfig, TileQuery, open_index, search
from .slide_table import CohortError
from .training import FitConfig, TrainConfig, Training, train
from .view import ViewConfig, view

__all__ = [
    "LEARNERS",
    "Bag",
    "Classes",
    "Cohort",
    "CohortError",
    "CohortSlide",
    "Comparison",
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
    "Predicted",
    "Prediction",
    "Preparation",
    "ProbeConfig",
    "Probed",
    "RegionQuery",
    "Report",
    "Run",
    "Scores",
    "SearchConfig",
    "SlideDetections",
    "SlideTruth",
    "TileQuery",
    "TileTruths",
    "TrainConfig",
    "Training",
    "ViewConfig",
    "attrition_table",
    "auc_interval",
    "batch_effect_table",
    "calibration_curves",
    "calibration_figure",
    "calibration_table",
    "class_table",
    "column_of",
    "comparison_table",
    "confusion_figure",
    "confusion_table",
    "decision_curves",
    "decision_figure",
    "delong",
    "delong_test",
    "demo",
    "evaluate",
    "export_model",
    "export_run",
    "extract",
    "fold_table",
    "froc_curve",
    "froc_figure",
    "froc_table",
    "group_names",
    "group_table",
    "groups_figure",
    "headline_table",
    "heatmap",
    "import_coords",
    "import_features",
    "load_learner",
    "load_predicted",
    "load_scores",
    "load_truth",
    "lost_slides",
    "mistake_table",
    "open_index",
    "pack",
    "precision_recall_curves",
    "precision_recall_figure",
    "predict",
    "probability_figure",
    "probe",
    "proportion_interval",
    "qc",
    "regrid_run",
    "report",
    "roc_curves",
    "roc_figure",
    "run_all",
    "save_scores",
    "search",
    "tile",
    "tile_table",
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
