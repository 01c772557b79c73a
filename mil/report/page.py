"""The report as one HTML page: nothing is fetched, nothing runs, and what users named is text only."""

import base64
import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pandas as pd

from mil.run_folder import Run
from mil.view import key_of

from .attrition import predictions_by_unit
from .contents import MOST_MISTAKES, Contents
from .figures import COLOURS, FAINT, INK, MOST_BANDS

_MOST_LOST = 50
_THUMBNAIL_PX = 480
_SECTIONS = {
    "predictions": "Predictions", "calibration": "Calibration", "folds": "Folds", "groups": "Groups",
    "models": "Models compared", "tiles": "Heatmaps", "mistakes": "Mistakes", "attrition": "Lost slides",
    "run": "The run",
}  # fmt: skip


def page(run: Run, contents: Contents, drawn: Mapping[str, str], folder: Path) -> str:
    """Return the page as it is to lie in `folder`, seen from where its links are; `drawn` is its SVG."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"three": _three, "count": _count, "p_value": _p_value, "duration": _duration}
    environment.tests["missing"] = _is_missing
    p, facts = contents.predicted, contents.facts
    steps = facts.steps.to_dict("records")
    return environment.get_template("page.html").render(
        p=p, facts=facts, limits=contents.limits, groups=contents.groups,
        figures={name: Markup(_themed(svg)) for name, svg in drawn.items()},
        tables={name: frame.to_dict("records") for name, frame in contents.tables.items()},
        version=version("slidebag"), written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        n_patients=len(set(p.patients)), judged=[p.names[c] for c in p.judged] if p.names else [],
        n_of_class=list(zip(p.names, p.truth.sum(axis=0).tolist(), strict=True)),
        has_bands=len(p.judged) <= MOST_BANDS, sections=_sections(contents),
        mistakes=_mistakes(run, contents, folder), most_lost=_MOST_LOST,
        steps=steps, commands=list(dict.fromkeys(s["command"] for s in steps if s["command"])),
        model_link=_link(run, facts.model / "README.md", folder) if facts.model else "",
        typical=_typical(contents), view_command=shlex.join(["slidebag", "view", facts.name]),
    )  # fmt: skip


def _sections(contents: Contents) -> list[tuple[str, str]]:
    n_folds = len(set(contents.predicted.folds))
    left_out = {
        "calibration": not len(contents.predicted), "folds": n_folds < 2,
        "mistakes": not len(contents.predicted), "groups": not contents.groups,
        "models": "compared" not in contents.tables, "tiles": "tiles" not in contents.tables,
    }  # fmt: skip
    return [(name, title) for name, title in _SECTIONS.items() if not left_out.get(name, False)]


def _themed(svg: str) -> str:
    """A figure whose colours follow the page's, light or dark."""
    for k, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--series-{k})")
    return svg.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")


def _mistakes(run: Run, contents: Contents, folder: Path) -> list[dict[str, Any]]:
    if "mistakes" not in contents.tables:
        return []
    slides, known, shown = predictions_by_unit(run), set(run.slides()["slide_id"]), []
    for row in contents.tables["mistakes"].head(MOST_MISTAKES).to_dict("records"):
        overlays = [(i, path) for i in slides[row["id"]] for path in contents.overlays[i]]
        links = [(f"{path.parent.name}/{path.name}", _link(run, path, folder)) for _, path in overlays]
        pages = {i: f"../slides/{key_of(i)}" for i in slides[row["id"]] if i in known}
        told = {"links": [(name, link) for name, link in links if link], "pages": pages, "picture": ""}
        if overlays:
            seen, path = overlays[0]
            told |= {"picture": _thumbnail(path), "page": pages.get(seen, ""), "seen": seen}
        shown.append(row | told)
    return shown


def _link(run: Run, path: Path, folder: Path) -> str:
    """The address of a file of the run, seen from `folder`; "" of one that lies elsewhere."""
    root, path = run.root.resolve(), path.resolve()
    if not path.is_relative_to(root):
        return ""
    up = len(folder.resolve().relative_to(root).parts)
    return "../" * up + quote(path.relative_to(root).as_posix())


def _thumbnail(path: Path) -> str:
    """A picture made small, as a data address; "" where there is none to be read."""
    picture = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_2)
    if picture is None:
        return ""
    scale = min(1.0, _THUMBNAIL_PX / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return _data("image/jpeg", cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _typical(contents: Contents) -> list[tuple[str, list[tuple[str, str]]]]:
    rows = contents.facts.typical.to_dict("records")
    found = [row for row in rows if Path(row["picture"]).is_file()]
    return [
        (group, [(_data("image/jpeg", Path(r["picture"]).read_bytes()), r["told"]) for r in own])
        for group, own in groupby(found, key=lambda row: row["group"])
    ]


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _three(value: float | None) -> str:
    return "not defined" if value is None or _is_missing(value) else f"{value:.3f}".replace("-", "−")


def _count(value: object) -> str:
    return "" if _is_missing(value) else f"{int(value):,}"  # type: ignore[call-overload]


def _p_value(value: float) -> str:
    return "not defined" if _is_missing(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if _is_missing(seconds):
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def as_json(contents: Contents) -> dict[str, Any]:
    """Return all tables and facts of a report for a program to read; what is not defined is None."""
    facts = {k: v for k, v in asdict(contents.facts).items() if k not in ("steps", "typical", "model")}
    told = {
        "format": "slidebag.report", "format_version": 1, "slidebag_version": version("slidebag"),
        "classes": contents.predicted.names, "unit": contents.predicted.unit, "limits": contents.limits,
        "columns": dict(contents.groups), "facts": facts | {"steps": contents.facts.steps},
        "tables": contents.tables,
    }  # fmt: skip
    return _plain(told)


def _plain(value: Any) -> Any:
    """A value as JSON has it: frames as lists of rows, None for what is no number."""
    if isinstance(value, pd.DataFrame):
        return _plain(value.astype(object).to_dict("records"))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    own = value.item() if isinstance(value, np.generic) else value
    is_number = not _is_missing(own) and not (isinstance(own, float) and math.isinf(own))
    return own if is_number else None
