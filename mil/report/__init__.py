"""The cohort report: how good a run's predictions and heatmaps are, and where they fail."""

from .attrition import attrition_table, lost_slides
from .columns import column_of
from .comparing import comparison_table
from .curves import calibration_curves, decision_curves, precision_recall_curves, roc_curves
from .delong import Comparison, delong, delong_test
from .figures import (
    calibration_figure,
    confusion_figure,
    decision_figure,
    froc_figure,
    groups_figure,
    precision_recall_figure,
    probability_figure,
    roc_figure,
)
from .froc import SlideDetections, froc_curve, froc_table
from .groups import batch_effect_table, group_names, group_table
from .intervals import proportion_interval
from .predicted import Predicted, load_predicted
from .ranking import auc_interval
from .tables import (
    calibration_table,
    class_table,
    confusion_table,
    fold_table,
    headline_table,
    mistake_table,
)
from .tile_tables import tile_table
from .truth import SlideTruth, TileTruths, load_truth
from .write import Report, report

__all__ = [
    "Comparison", "Predicted", "Report", "SlideDetections", "SlideTruth", "TileTruths", "attrition_table",
    "auc_interval", "batch_effect_table", "calibration_curves", "calibration_figure", "calibration_table",
    "class_table", "column_of", "comparison_table", "confusion_figure", "confusion_table",
    "decision_curves", "decision_figure", "delong", "delong_test", "fold_table", "froc_curve",
    "froc_figure", "froc_table", "group_names", "group_table", "groups_figure", "headline_table",
    "load_predicted", "load_truth", "lost_slides", "mistake_table", "precision_recall_curves",
    "precision_recall_figure", "probability_figure", "proportion_interval", "report", "roc_curves",
    "roc_figure", "tile_table",
]  # fmt: skip
