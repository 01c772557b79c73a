"""A column of the slide table, or of what slidebag measured, for each predicted slide or patient."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mil.run_folder import Run
from mil.slide_table import matched, read_columns
from tiling import ConfigError

from .attrition import predictions_by_unit
from .predicted import Predicted

SEVERAL = "several"  # of a patient whose slides differ


def column_of(run: Run, predicted: Predicted, name: str, table: Path | None = None) -> np.ndarray:
    """Return the value of a column for each row of `predicted`, text (B,), "" where there is none.

    The column is sought in `table`, a slide table such as the run was made with, then in the run's
    slides.csv, qc.csv and predictions.csv. Of a patient whose slides differ it is "several".

    Raises:
        ConfigError: no table has such a column.
        CohortError: `table` cannot be read, names none of the slides, or one of them twice, or a name in it
            means several.
    """
    values = _values(run, name, table)
    rows = predictions_by_unit(run)
    told = [list(dict.fromkeys(values.get(i, "") for i in rows[own])) for own in predicted.ids.tolist()]
    return np.array([each[0] if len(each) == 1 else SEVERAL for each in told], str)


def _values(run: Run, name: str, table: Path | None) -> Mapping[str, str]:
    known: list[str] = []
    for rows in _tables(run, table):
        if name in rows.columns:
            return dict(zip(rows["slide_id"], rows[name], strict=True))
        known += [str(c) for c in rows.columns if c not in known]
    hint = f"columns are {', '.join(known)}" + (
        "" if table else "; others are found with --table, the slide table"
    )
    raise ConfigError(f"{run.root}: no table has a column {name!r}", hint=hint)


def _tables(run: Run, table: Path | None) -> list[pd.DataFrame]:
    slides = run.slides()
    found = [] if table is None else [_by_slide(table, slides)]
    found.append(slides)
    for name in ("qc.csv", "predictions.csv"):
        if (run.root / name).is_file():
            rows = run.read_table(name)
            found += [rows] if "slide_id" in rows.columns else []
    return found


def _by_slide(table: Path, slides: pd.DataFrame) -> pd.DataFrame:
    """The user's table with our slide ids."""
    files = {i: Path(path) for i, path in zip(slides["slide_id"], slides["path"], strict=True)}
    rows = read_columns(table)
    return rows.assign(slide_id=matched(rows, files, table, f"one of the run's {len(files)}"))
