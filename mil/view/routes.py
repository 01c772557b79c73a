"""What the viewer answers: a closed list of addresses, and slides by nothing but their keys."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

from mil.run_folder import Run
from tiling import FormatError, ResolutionError, Slide, SlidebagError, heat_colours

from .cohort_table import Problem, cohort_rows, key_of, problem_of
from .open_slides import OpenSlides
from .slide_data import NotThere, SlideData

_STATIC = Path(__file__).parent / "static"
_HTML = "text/html; charset=utf-8"
_KINDS = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_JSON, BYTES, _JPEG = "application/json", "application/octet-stream", "image/jpeg"
_REPORT_KINDS = {".html": _HTML, ".csv": "text/csv; charset=utf-8", ".json": _JSON, ".svg": _KINDS[".svg"]}
_FAINTEST = 0.15  # opacity at probability 0, as in the overlays: scored differs from not scored
_CHANGED = {
    "step": "heatmap",
    "error": "the file has changed since it was tiled",
    "hint": "check that it is the same slide, or tile it again",
}  # to a copy of it, perhaps: the time of change counts
_SLIDE = "/api/slides/([0-9a-f]{16})"
_NUMBER = "([0-9]{1,7})"
_AT_HOME = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " + _AT_HOME
)
_REPORT_POLICY = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; {_AT_HOME}"
_IN_VIEWER = b'<html lang="en">', b'<html lang="en" class="in-viewer">'  # by which a report shows its links


@dataclass(frozen=True)
class Answer:
    """The body of an answer, what kind of content it is, its HTTP status, and what a page may do."""

    body: bytes
    kind: str
    status: int = 200
    policy: str = _POLICY

    @classmethod
    def json(cls, told: Any, status: int = 200) -> "Answer":
        """Return an answer in JSON."""
        return cls(json.dumps(told, allow_nan=False).encode("ascii"), _JSON, status)

    @classmethod
    def problem(cls, status: int, error: str, hint: str = "") -> "Answer":
        """Return what went wrong, and the way out."""
        return cls.json({"error": error, "hint": hint}, status)


class Routes:
    """The viewer's answers about one run, read anew from its files, so that a run may go on meanwhile."""

    def __init__(self, run: Run) -> None:
        self._run, self._open = run, OpenSlides()
        self._files = {path.name: path for path in _STATIC.iterdir() if path.suffix in _KINDS}
        self._paths: dict[str, Path] = {}
        self._look_up()

    def answer(self, path: str) -> Answer:
        """Answer a request for a path as it came, without decoding any of it."""
        for pattern, answer in _ROUTES:
            if found := re.fullmatch(pattern, path):
                try:
                    return answer(self, *found.groups())
                except NotThere:
                    break
                except SlidebagError as problem:
                    return Answer.problem(422, problem.message, problem.hint)
        return Answer.problem(404, "there is no such page")

    def close(self) -> None:
        """Let go of all slides."""
        self._open.close()

    def _file(self, name: str) -> Answer:
        path = self._files.get(name)
        if path is None:
            raise NotThere(name)
        return Answer(path.read_bytes(), _KINDS[path.suffix])

    def _icon(self) -> Answer:
        """What browsers ask for beside pages that name no icon, such as the report."""
        return self._file("icon.svg")

    def _cohort_page(self) -> Answer:
        return _page("cohort", up="")

    def _slide_page(self, key: str) -> Answer:
        self._path(key)
        return _page("slide", up="../")

    def _report(self, name: str) -> Answer:
        """A file of the run's report, which runs nothing and loads nothing, whoever wrote it."""
        folder = self._run.root.resolve() / "report"
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise NotThere(name)
        try:
            body = path.read_bytes()
        except OSError as error:  # there is none, or it has just been taken away
            raise NotThere(name) from error
        return Answer(body, _REPORT_KINDS[Path(name).suffix], policy=_REPORT_POLICY)

    def _report_page(self) -> Answer:
        page = self._report("index.html")
        return replace(page, body=page.body.replace(*_IN_VIEWER, 1))

    def _cohort(self) -> Answer:
        self._look_up()
        problems: list[Problem] = []
        rows = cohort_rows(self._run, problems)
        root = self._run.root.resolve()
        page = root / "report" / "index.html"
        # one that lies elsewhere is not given out
        told = {"run": root.name, "has_report": page.is_file() and page.resolve() == page}
        return Answer.json(told | {"slides": rows, "problems": problems})

    def _slide(self, key: str) -> Answer:
        path, problems = self._path(key), []
        rows = cohort_rows(self._run, problems)
        row = next((row for row in rows if row["key"] == key), None)
        if row is None:  # it has left slides.csv meanwhile
            raise NotThere(key)
        of_run, problems = problems, list(row["problems"])
        picture, scored = self._picture(path, problems), self._scored(row["slide_id"], problems)
        if picture and scored and tuple(picture["size_px"]) != tuple(scored["size_px"]):
            problems.append(_of_another_size(picture["size_px"], scored["size_px"]))
            scored = None
        elif picture and scored and picture["fingerprint"] != scored["slide_fingerprint"]:
            problems.append(_CHANGED)
        told = {
            "run": self._run.root.resolve().name,
            "slides": [r["key"] for r in rows if r["key"]],
            "scale": {"colours": heat_colours().tolist(), "faintest": _FAINTEST},
            "picture": picture,
            "scored": scored,
            "problems": of_run + problems,
        }
        return Answer.json(row | told)

    def _picture(self, path: Path, problems: list[Problem]) -> dict[str, Any] | None:
        """What the page needs to ask for squares of a slide; what is wrong with it goes to `problems`."""
        try:
            with self._open.opened(path) as zoom:
                squares = {"most_halvings": zoom.most_halvings, "square_px": zoom.SQUARE_PX}
                return _facts(zoom.slide) | squares
        except SlidebagError as problem:
            problems.append(problem_of("slide", problem))
            return None

    def _scored(self, slide_id: str, problems: list[Problem]) -> dict[str, Any] | None:
        try:
            return SlideData.load(self._run, slide_id).told()
        except FormatError as problem:
            if not problems:  # else the step that failed has said why there are no tiles
                problems.append(problem_of("heatmap", problem))
            return None

    def _square(self, key: str, halvings: str, column: str, row: str) -> Answer:
        try:
            body = self._open.jpeg(self._path(key), int(halvings), int(column), int(row))
        except ValueError as error:
            raise NotThere from error
        return Answer(body, _JPEG)

    def _raster(self, key: str, number: str) -> Answer:
        return Answer(self._data(key).raster(int(number)).astype("<f4").tobytes(), BYTES)

    def _hot(self, key: str, number: str) -> Answer:
        return Answer(self._data(key).hot(int(number)).astype("<f4").tobytes(), BYTES)

    def _tiles(self, key: str) -> Answer:
        return Answer(self._data(key).tiles(), BYTES)

    def _data(self, key: str) -> SlideData:
        self._path(key)
        return SlideData.load(self._run, self._ids[key])

    def _path(self, key: str) -> Path:
        """The slide of a key; raises NotThere."""
        if key not in self._paths:
            self._look_up()
        if key not in self._paths:
            raise NotThere(key)
        return self._paths[key]

    def _look_up(self) -> None:
        slides = self._run.slides()
        self._ids = {key_of(slide_id): slide_id for slide_id in slides["slide_id"]}
        self._paths = {
            key_of(i): Path(path) for i, path in zip(slides["slide_id"], slides["path"], strict=True)
        }


def _page(name: str, *, up: str) -> Answer:
    """A page of ours in the frame that all have; `up` leads from its address to that of the cohort."""
    frame, body = ((_STATIC / f"{each}.html").read_text(encoding="utf-8") for each in ("page", name))
    return Answer(Template(frame).substitute(name=name, up=up, body=body).encode(), _HTML)


def _facts(slide: Slide) -> dict[str, Any]:
    try:
        mpp = slide.mpp
    except ResolutionError:
        mpp = None
    return {"size_px": slide.size_px, "mpp": mpp, "reader": slide.reader, "fingerprint": slide.fingerprint}


def _of_another_size(found: tuple[int, int], wanted: tuple[int, int]) -> Problem:
    error = f"the slide is {found[0]} × {found[1]} px, its tiles are of one of {wanted[0]} × {wanted[1]} px"
    return {"step": "heatmap", "error": error, "hint": "another file lies in its place: tile it again"}


_ROUTES: tuple[tuple[str, Callable[..., Answer]], ...] = (
    ("/", Routes._cohort_page),
    ("/slides/([0-9a-f]{16})", Routes._slide_page),
    (r"/static/([a-z_]+\.[a-z]+)", Routes._file),
    (r"/favicon\.ico", Routes._icon),
    ("/report/", Routes._report_page),
    (r"/report/(report\.json|tables/[a-z0-9_]+\.csv|figures/[a-z0-9_]+\.svg)", Routes._report),
    ("/api/cohort", Routes._cohort),
    (_SLIDE, Routes._slide),
    (f"{_SLIDE}/squares/{_NUMBER}/{_NUMBER}/{_NUMBER}", Routes._square),
    (f"{_SLIDE}/rasters/{_NUMBER}", Routes._raster),
    (f"{_SLIDE}/hot/{_NUMBER}", Routes._hot),
    (f"{_SLIDE}/tiles", Routes._tiles),
)
