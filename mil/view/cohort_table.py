"""The cohort as the viewer's table shows it: one row a slide, with what is known and what went wrong."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mil.batch import FAILED
from mil.classes import names_in
from mil.predictions import class_names, rows_by_slide
from mil.run_folder import Run, n_tiles_of
from tiling import FormatError, SlidebagError

Problem = dict[str, str]  # the step that failed, the error, and the way out
_Row = TypeVar("_Row")


def key_of(slide_id: str) -> str:
    """Return what stands for a slide in addresses: 16 hex digits, whatever letters its id holds."""
    return hashlib.sha256(slide_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def problem_of(step: str, problem: SlidebagError) -> Problem:
    """Return an error as the pages tell it."""
    return {"step": step, "error": problem.message, "hint": problem.hint}


def cohort_rows(run: Run, problems: list[Problem]) -> list[dict[str, Any]]:
    """Return the table's rows in the order of slides.csv, then what failed before it got there.

    `key` is None where there is no slide to look at. Other tables that cannot be read go to `problems`.

    Raises:
        FormatError: this is no run folder.
    """
    predicted = _read(run, "predictions.csv", rows_by_slide, problems)
    failed = _read(run, "failures.csv", _failures, problems)
    flagged = _read(run, "qc.csv", _flags, problems)
    rows = []
    for slide in run.slides().to_dict("records"):
        slide_id = slide["slide_id"]
        told = predicted.get(slide_id, {})
        flags = [flag.replace("_", " ") for flag in told.get("flags", "").split()]
        known = {
            "key": key_of(slide_id),
            "patient_id": slide["patient_id"],
            "label": slide["label"],
            "n_tiles": n_tiles_of(slide),
            "flags": list(dict.fromkeys([*flags, *flagged.get(slide_id, ())])),
        }
        rows.append(
            {"slide_id": slide_id}
            | known
            | _predicted(told, slide["label"])
            | _status(slide["status"], slide["message"], failed.pop(slide_id, ()))
        )
    strangers = ({"slide_id": i, "key": None} | _status("", "", told) for i, told in failed.items())
    return [*rows, *strangers]


def _read(
    run: Run, table: str, read: Callable[[Run], dict[str, _Row]], problems: list[Problem]
) -> dict[str, _Row]:
    """What a table says of each slide, nothing without it; why it cannot be read goes to `problems`."""
    if not (run.root / table).is_file():
        return {}
    try:
        return read(run)
    except KeyError as column:
        error = f"{run.root}: {table} has no column {column}"
        problems.append(problem_of(table, FormatError(error, hint="run the step that makes it again")))
    except FormatError as problem:
        problems.append(problem_of(table, problem))
    return {}


def _failures(run: Run) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for row in run.read_table("failures.csv").to_dict("records"):
        told = {name: row[name] for name in ("step", "error", "hint")}
        found.setdefault(row["slide_id"], []).append(told)
    return found


def _flags(run: Run) -> dict[str, list[str]]:
    rows = run.read_table("qc.csv").to_dict("records")
    return {row["slide_id"]: list(filter(None, row["flags"].split(", "))) for row in rows}


def _predicted(told: Mapping[str, str], label: str) -> dict[str, Any]:
    """What the model says of the slide, or of its patient.

    `truth` is the label that this is compared with, the slide's, or the patient's, which may be of more
    classes; `is_wrong` is None where there is nothing to compare.
    """
    called, is_of_patient = told.get("prediction", ""), bool(told) and "slide_id" not in told
    truth = told.get("label", "") if is_of_patient else label
    is_wrong = set(names_in(truth)) != set(names_in(called)) if truth and called else None
    probability = {name: _number(told[f"p({name})"]) for name in class_names(told)}
    threshold = _number(told.get("tile_threshold", ""))
    return {
        "prediction": called,
        "probability": probability,
        "tile_threshold": threshold,
        "is_wrong": is_wrong,
        "truth": truth,
        "is_of_patient": is_of_patient,
    }


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _status(status: str, message: str, failures: Iterable[Problem]) -> dict[str, Any]:
    """How far the slide came, and every step that failed with what to do about it."""
    problems = list(failures)
    if not problems and message:
        problems = [{"step": "", "error": message, "hint": ""}]
    return {"status": FAILED if any(p["step"] for p in problems) else status, "problems": problems}
