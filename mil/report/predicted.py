"""The labelled predictions of a run as arrays, which all figures of the report are made from."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mil.classes import SEPARATOR, members, names_in
from mil.predictions import check_called, class_names, load_predictions
from mil.run_folder import Run

_COLUMNS = ("label", "p(<class>)", "uncalibrated(<class>)", "prediction", "set", "threshold", "fold")


@dataclass(frozen=True)
class Predicted:
    """Predictions of B slides, or of B patients where one bag is one, with labels of C classes.

    `ids` and `patients` (B,) text; `truth` and `called` bool (B, C): what each is labelled and what it was
    called at the frozen threshold; `probability` and `uncalibrated` float64 (B, C); `folds` (B,) text, "" for
    the final model; `unit` is "slide" or "patient". `n_unlabelled` counts predictions left out.
    """

    names: tuple[str, ...]
    ids: np.ndarray
    patients: np.ndarray
    truth: np.ndarray
    probability: np.ndarray
    uncalibrated: np.ndarray
    called: np.ndarray
    folds: np.ndarray
    is_exclusive: bool = True
    unit: str = "slide"
    n_unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Predicted({len(self)} {self.unit}s of {len(set(self.patients))} patients, {self.names})"

    @property
    def judged(self) -> tuple[int, ...]:
        """The classes that figures are of: of two that exclude each other the second, else each."""
        return (1,) if len(self.names) == 2 and self.is_exclusive else tuple(range(len(self.names)))

    @property
    def labels(self) -> np.ndarray:
        """The labels as `mil.metrics` takes them: int (B,), or bool (B, C) if not exclusive."""
        return self.truth.argmax(axis=1) if self.is_exclusive else self.truth

    @property
    def is_right(self) -> np.ndarray:
        """Whether each was called just what it is labelled, bool (B,)."""
        return (self.called == self.truth).all(axis=1)

    def of(self, rows: np.ndarray) -> "Predicted":
        """Return some of the rows, by places or by a bool (B,)."""
        arrays = ("ids", "patients", "truth", "probability", "uncalibrated", "called", "folds")
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})


def load_predicted(run: Run) -> Predicted:
    """Return the labelled predictions of a run.

    Raises:
        FormatError: the run has no predictions, columns of them are missing, or one is of no class of theirs.
    """
    rows = load_predictions(run, *_COLUMNS)
    names = class_names(rows)
    unit = "slide" if "slide_id" in rows.columns else "patient"
    for own, called in zip(rows[f"{unit}_id"], rows["prediction"], strict=True):
        # else it would count as a mistake
        check_called(called, names, f"{run.root}: predictions.csv calls {own}")
    if unit == "patient":
        return _predicted(rows, names, rows["patient_id"].to_numpy(str), unit)
    patient_of = dict(zip(*(run.slides()[c] for c in ("slide_id", "patient_id")), strict=True))
    patients = np.array([patient_of.get(i) or i for i in rows["slide_id"]], str)
    return _predicted(rows, names, patients, unit)


def _predicted(rows: pd.DataFrame, names: tuple[str, ...], patients: np.ndarray, unit: str) -> Predicted:
    is_known = np.array(
        [bool(names_in(label)) and set(names_in(label)) <= set(names) for label in rows["label"]]
    )
    known = pd.DataFrame(rows[is_known.astype(bool)])
    after, before = (
        known[[f"{what}({n})" for n in names]].to_numpy(np.float64) for what in ("p", "uncalibrated")
    )
    return Predicted(
        names=names,
        ids=known[f"{unit}_id"].to_numpy(str),
        patients=patients[is_known.astype(bool)],
        truth=members(known["label"].map(names_in), names),
        probability=after,
        uncalibrated=before,
        called=members(known["prediction"].map(names_in), names),
        folds=known["fold"].to_numpy(str),
        is_exclusive=not known["threshold"].str.contains(SEPARATOR, regex=False).any(),
        unit=unit,
        n_unlabelled=len(rows) - len(known),
    )
