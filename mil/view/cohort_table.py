"""The cohort as the viewer's table shows it: one row a slide, with what is known and what went wrong."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from mil.batch import FAILED
from mil.classes import names_in
from mil.predictions import rows_by_slide
from mil.run_folder import Run


def key_of(slide_id: str) -> str:
    """Return what stands for a slide in addresses: 16 hex digits, whatever letters its id holds."""
    return hashlib.sha256(slide_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def cohort_rows(run: Run) -> list[dict[str, Any]]:
    """Return the table's rows in the order of slides.csv, then what failed before it got there.

    `key` is None where there is no slide to look at.

    Raises:
        FormatError: this is no run folder.
    """
    predicted = rows_by_slide(run) if (run.root / "predictions.csv").is_file() else {}
    failed = _by_slide(run, "failures.csv")
    flagged = _by_slide(run, "qc.csv")
    rows = []
    for slide in run.slides().to_dict("records"):
        slide_id = slide["slide_id"]
        told = predicted.get(slide_id, {})
        flags = told.get("flags", "").replace("_", " ")
        of_slide = [flag for row in flagged.get(slide_id, ()) for flag in row["flags"].split(", ")]
        known = {
            "key": key_of(slide_id),
            "patient_id": slide["patient_id"],
            "label": slide["label"],
            "n_tiles": int(slide["n_tiles"] or 0),
            "flags": list(dict.fromkeys(filter(None, [flags, *of_slide]))),
        }
        rows.append(
            {"slide_id": slide_id}
            | known
            | _predicted(told, slide["label"])
            | _status(slide["status"], slide["message"], failed.pop(slide_id, ()))
        )
    strangers = ({"slide_id": i, "key": None} | _status("", "", told) for i, told in failed.items())
    return [*rows, *strangers]


def _by_slide(run: Run, table: str) -> dict[str, list[dict[str, str]]]:
    if not (run.root / table).is_file():
        return {}
    found: dict[str, list[dict[str, str]]] = {}
    for row in run.read_table(table).to_dict("records"):
        found.setdefault(row["slide_id"], []).append({str(k): v for k, v in row.items()})
    return found


def _predicted(told: Mapping[str, str], label: str) -> dict[str, Any]:
    """What the model says; `is_wrong` is None where there is nothing to compare."""
    called = told.get("prediction", "")
    is_wrong = set(names_in(label)) != set(names_in(called)) if label and called else None
    probability = {
        name[2:-1]: _number(text) for name, text in told.items() if name.startswith("p(") and name[-1] == ")"
    }
    threshold = _number(told.get("tile_threshold", ""))
    return {
        "prediction": called,
        "probability": probability,
        "tile_threshold": threshold,
        "is_wrong": is_wrong,
    }


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _status(status: str, message: str, failures: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """How far the slide came, and every step that failed with what to do about it."""
    problems = [{"step": f["step"], "error": f["error"], "hint": f["hint"]} for f in failures]
    if not problems and message:
        problems = [{"step": "", "error": message, "hint": ""}]
    return {"status": FAILED if any(p["step"] for p in problems) else status, "problems": problems}
