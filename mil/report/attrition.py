"""Which slides were lost on the way, at which step and why."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from mil.batch import FAILED, NO_TILE, NO_TILE_HINT, NO_TISSUE
from mil.cohort import SPLITS
from mil.predictions import load_predictions, slides_of
from mil.run_folder import PENDING, Run

_LOST_COLUMNS = ["slide_id", "step", "why", "hint", "is_predicted"]


def steps_of(run: Run) -> dict[str, Any]:
    """Return what run.json tells of each step; nothing where there is none."""
    return run.record()["steps"]


def predictions_by_unit(run: Run) -> dict[str, list[str]]:
    """Return the slides that each row of predictions.csv is of, by the id of the slide or patient."""
    rows = load_predictions(run)
    unit = "slide_id" if "slide_id" in rows.columns else "patient_id"
    return {str(row[unit]): slides_of(row) for row in rows.to_dict("records")}


def attrition_table(run: Run) -> pd.DataFrame:
    """Return how many slides came through each step: columns step, n, lost.

    Slides that the table's split holds for training and validation are a step of their own, and not lost.
    A step that the run's files tell nothing of, as the features of a packed store, is left out.
    """
    rows, predicted = run.slides(), _predicted(run)
    found = set(rows["slide_id"])
    tiled = {i for i in found if run.grid_path(i).is_file()} - set(
        rows.loc[rows["status"] == FAILED, "slide_id"]
    )
    with_tiles = {
        i for i, n in zip(rows["slide_id"], rows["n_tiles"], strict=True) if i in tiled and n not in ("", "0")
    }
    told = [("named by the table, or in the folder", found | _strangers(run)), ("matched with a file", found),
            ("opened and searched for tissue", tiled), ("with tissue and tiles", with_tiles)]  # fmt: skip
    folder = _features_folder(run)
    if folder is not None:
        told.append(("with features", {i for i in with_tiles if (folder / f"{i}.h5").is_file()}))
    held = told[-1][1] & _held(run) - predicted
    told.append(("predicted", predicted & with_tiles))
    labels = dict(zip(rows["slide_id"], rows["label"], strict=True))
    if any(labels.values()):
        told.append(("predicted, with a label", {i for i in told[-1][1] if labels.get(i)}))
    n = [len(slides) for _, slides in told]
    lost = [0, *(before - after for before, after in pairwise(n))]
    frame = pd.DataFrame({"step": [name for name, _ in told], "n": n, "lost": lost})
    return _with_held(frame, len(held)) if held else frame


def _held(run: Run) -> set[str]:
    """The slides that the table's split gives to training and validation, less those that failed there."""
    rows, failures = run.slides(), _failures(run)
    is_held = rows["split"].isin(SPLITS[:2]) & (rows["label"] != "")
    failed = failures.loc[failures["step"].isin(["train", "predict"]), "slide_id"]
    return set(rows.loc[is_held, "slide_id"]) - set(failed)


def _with_held(frame: pd.DataFrame, n_held: int) -> pd.DataFrame:
    """The table with a row of its own for slides that are not predicted because they were learned from."""
    place = frame["step"].tolist().index("predicted")
    frame.loc[place, "lost"] -= n_held
    held = {"step": "held for training and validation, by the table's split", "n": n_held, "lost": 0}
    return pd.concat([frame.iloc[:place], pd.DataFrame([held]), frame.iloc[place:]], ignore_index=True)


def _predicted(run: Run) -> set[str]:
    return {slide_id for slides in predictions_by_unit(run).values() for slide_id in slides}


def _strangers(run: Run) -> set[str]:
    """Rows of the table without a file, and files without a row."""
    failures = _failures(run)
    return set(failures.loc[failures["step"] == "cohort", "slide_id"])


def _failures(run: Run) -> pd.DataFrame:
    if (run.root / "failures.csv").is_file():
        return run.read_table("failures.csv")
    return pd.DataFrame(columns=["slide_id", "step", "error", "hint"])


def _features_folder(run: Run) -> Path | None:
    """The folder of the features that were learned or predicted from; None if they are no file a slide."""
    steps = steps_of(run)
    encoder = steps.get("train", {}).get("encoder")
    if encoder is None:
        encoders = steps.get("extract", {}).get("encoders", [])
        encoder = encoders[0]["encoder"] if encoders else None
    folder = run.features_folder(encoder) if encoder else None
    return folder if folder is not None and folder.is_dir() else None


def lost_slides(run: Run) -> pd.DataFrame:
    """Return the slides that something went wrong with, in the order of the steps.

    Columns: slide_id, step, why, hint, is_predicted (a slide without tissue is predicted from that alone).
    """
    predicted = _predicted(run)
    rows = [
        _row(r["slide_id"], r["step"], r["error"], r["hint"], predicted)
        for r in _failures(run).to_dict("records")
    ]
    told = {row[0] for row in rows}
    for slide in run.slides().to_dict("records"):
        own, status = slide["slide_id"], slide["status"]
        if status in (NO_TISSUE, NO_TILE):
            hint = NO_TILE_HINT if status == NO_TILE else f"look at qc/{own}.png"
            rows.append(_row(own, "tile", status, hint, predicted))
        elif status == PENDING:
            rows.append(_row(own, "tile", "its turn did not come", "run the same command again", predicted))
        elif status == FAILED and own not in told:
            rows.append(_row(own, "tile or extract", slide["message"], "", predicted))
    order = ["cohort", *steps_of(run)]
    rows.sort(key=lambda row: (order.index(row[1]) if row[1] in order else len(order), row[0]))
    return pd.DataFrame(rows, columns=_LOST_COLUMNS)


def _row(
    slide_id: str, step: str, why: str, hint: str, predicted: set[str]
) -> tuple[str, str, str, str, bool]:
    return slide_id, step, why, hint, slide_id in predicted
