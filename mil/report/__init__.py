"""The cohort report: how good a run's predictions and heatmaps are, and where they fail."""

from .attrition import attrition, lost_slides
from .columns import column_of
from .comparing import compare
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
from .froc import froc, froc_curve
from .groups import batch_effects, by_group, group_names
from .intervals import bootstrap, of_samples, proportion_interval
from .predicted import Predicted, load_predicted
from .ranking import auc_interval
from .tables import by_class, by_fold, calibration, confusion, headline, mistakes
from .tile_tables import tile_table
from .truth import TileTruths, load_truth
from .write import Report, report

__all__ = [
    "Comparison", "Predicted", "Report", "TileTruths", "attrition", "auc_interval", "batch_effects", "bootstrap",
    "by_class", "by_fold", "by_group", "calibration", "calibration_curves", "calibration_figure", "column_of",
    "compare", "confusion", "confusion_figure", "decision_curves", "decision_figure", "delong", "delong_test",
    "froc", "froc_curve", "froc_figure", "group_names", "groups_figure", "headline", "load_predicted",
    "load_truth", "lost_slides", "mistakes", "of_samples", "precision_recall_curves", "precision_recall_figure",
    "probability_figure", "proportion_interval", "report", "roc_curves", "roc_figure", "tile_table",
]  # fmt: skip
