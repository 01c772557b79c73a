"""The run folder: where every step finds what the step before it left (docs/architecture.md)."""

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from features import is_folder_name, whole_path
from tiling import ConfigError, FormatError, replacing

from .classes import SEPARATOR, names_in
from .cohort import Cohort, CohortSlide, Failure
from .machine import computed_by

PENDING = "pending"  # the status of a slide that no step came to
_SLIDE_COLUMNS = ["slide_id", "path", "patient_id", "label", "mpp", "split", "n_tiles", "status", "message"]
_FAILURE_COLUMNS = ["slide_id", "step", "error", "hint"]


class Run:
    """One folder of results; knows its paths and keeps its tables whole."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"Run({str(self.root)!r})"

    @classmethod
    def create(cls, root: Path) -> "Run":
        """Return the run in `root`, made if it is not there.

        Raises:
            ConfigError: nothing can be written there.
        """
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise ConfigError(
                f"{root}: cannot be written to ({error.strerror})", hint="choose another output folder"
            ) from error
        return cls(root)

    def grid_path(self, slide_id: str) -> Path:
        """Return the place of a slide's grid."""
        return self.root / "tiles" / f"{slide_id}.h5"

    def features_path(self, encoder: str, slide_id: str) -> Path:
        """Return the place of a slide's feature bag."""
        return self.features_folder(encoder) / f"{slide_id}.h5"

    def features_folder(self, encoder: str) -> Path:
        """Return the folder of an encoder's feature bags."""
        return self.root / "features" / _folder_of(encoder)

    def store_path(self, encoder: str) -> Path:
        """Return the place of an encoder's packed store."""
        return self.root / "features" / f"{_folder_of(encoder)}.zarr"

    def search_folder(self, encoder: str) -> Path:
        """Return the folder of the index of an encoder's features, and of what was found by it."""
        return self.root / "search" / _folder_of(encoder)

    def scores_path(self, slide_id: str) -> Path:
        """Return the place of a slide's scores."""
        return self.root / "scores" / f"{slide_id}.h5"

    def model_folder(self, learner: str) -> Path:
        """Return the folder of a learner's model."""
        return self.root / "models" / learner

    def heatmap_folder(self, slide_id: str) -> Path:
        """Return the folder of a slide's heatmaps."""
        return self.root / "heatmaps" / slide_id

    def qc_path(self, slide_id: str) -> Path:
        """Return the place of a slide's picture of its tissue and tiles."""
        return self.root / "qc" / f"{slide_id}.png"

    def contact_sheet_path(self, page: int) -> Path:
        """Return the place of a page of the contact sheet, counted from 1."""
        return self.root / "qc" / ("contact_sheet.png" if page == 1 else f"contact_sheet_{page}.png")

    def begin(self, cohort: Cohort) -> Cohort:
        """Write slides.csv for a cohort, nothing done yet, in a folder that is made if need be; return it.

        What an earlier slides.csv knows of its slides holds, if the cohort itself knows nothing of any.

        Raises:
            ConfigError: nothing can be written there, or a slides.csv is there that no run has written.
            FormatError: the slides.csv that is there is damaged.
        """
        if (self.root / "slides.csv").exists():
            self._check_own()
            cohort = self._with_known(cohort)
        self.create(self.root)
        rows = [
            {**asdict(s), "path": str(s.path.absolute()), "n_tiles": "", "status": PENDING, "message": ""}
            for s in cohort.slides
        ]
        self.write_table("slides.csv", pd.DataFrame(rows, columns=_SLIDE_COLUMNS))
        return cohort

    def _check_own(self) -> None:
        """Raise ConfigError rather than replace a slides.csv that a user made, or added columns to."""
        columns = list(self.read_table("slides.csv", hint="name another run folder, or remove it").columns)
        if sorted(columns) != sorted(_SLIDE_COLUMNS):
            raise ConfigError(
                f"{self.root / 'slides.csv'}: is not a run's own table, which would take its place: "
                f"its columns are {', '.join(columns)}, wanted {', '.join(_SLIDE_COLUMNS)}",
                hint="name another run folder",
            )

    def _with_known(self, cohort: Cohort) -> Cohort:
        """The cohort with what slides.csv knows, said on stderr, if it knows nothing, as without a table."""
        if any(map(_is_told, cohort.slides)):
            return cohort
        known = {slide.slide_id: slide for slide in self.cohort().slides if _is_told(slide)}
        slides = tuple(replace(known.get(s.slide_id, s), path=s.path) for s in cohort.slides)
        n_kept = sum(map(_is_told, slides))
        n_gone = len(known) - n_kept
        if known:
            print(
                f"{self.root / 'slides.csv'}: no table tells of the slides, so it keeps label, patient, mpp "
                f"and split of {n_kept}" + (f"; {n_gone} others are not among them and go" if n_gone else ""),
                file=sys.stderr,
            )
        return replace(cohort, slides=slides)

    def slides(self) -> pd.DataFrame:
        """Return slides.csv, all columns as text.

        Raises:
            FormatError: this is no run folder, or columns are missing.
        """
        hint = "`slidebag tile SLIDES RUN` makes the run and its slides.csv"
        rows = self.read_table("slides.csv", hint=hint)
        missing = [name for name in _SLIDE_COLUMNS if name not in rows.columns]
        if missing:
            raise FormatError(
                f"{self.root}: slides.csv has no column {', '.join(missing)}; "
                f"its columns are {', '.join(rows.columns)}",
                hint=hint,
            )
        return rows

    def cohort(self, *statuses: str) -> Cohort:
        """Return the slides of this run, or only those of the given statuses, which the last step left."""
        rows = self.slides()
        if statuses:
            rows = pd.DataFrame(rows[rows["status"].isin(statuses)])
        return Cohort(
            tuple(
                CohortSlide(
                    row["slide_id"],
                    Path(row["path"]),
                    SEPARATOR.join(names_in(row["label"])),
                    row["patient_id"],
                    _number_in(row, "mpp"),
                    row["split"].strip(),
                )
                for row in rows.to_dict("records")
            )
        )

    def update_slides(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Change some columns of some slides in slides.csv: {slide_id: {column: value}}."""
        rows = [{str(k): v for k, v in row.items()} for row in self.slides().to_dict("records")]
        for row in rows:
            row |= {k: str(v) for k, v in told.get(row["slide_id"], {}).items()}
        self.write_table("slides.csv", pd.DataFrame(rows, columns=_SLIDE_COLUMNS))

    def record_failures(self, step: str, failures: Iterable[Failure]) -> None:
        """Replace what failures.csv says about `step`; no file is left if nothing failed."""
        path = self.root / "failures.csv"
        known = self.read_table("failures.csv") if path.exists() else pd.DataFrame(columns=_FAILURE_COLUMNS)
        new = pd.DataFrame([asdict(f) for f in failures], columns=_FAILURE_COLUMNS)
        both = [t for t in (known[known.step != step], new) if len(t)]
        if both:
            self.write_table("failures.csv", pd.DataFrame(pd.concat(both)))
        else:
            path.unlink(missing_ok=True)

    def is_trained(self) -> bool:
        """Return whether a training took place in this run, or began to."""
        return (self.root / "models").exists() or "train" in self.record()["steps"]

    def record(self) -> dict[str, Any]:
        """Return what run.json holds; no steps where there is none.

        Raises:
            FormatError: it is damaged.
        """
        path = self.root / "run.json"
        if not path.exists():
            return {"steps": {}}
        try:
            record = json.loads(path.read_text())
            return {**record, "steps": dict(record["steps"])}
        except (ValueError, TypeError, KeyError) as error:
            hint = "remove it: no result is lost, only what it tells of how they were made"
            raise FormatError(f"{path}: is damaged ({error})", hint=hint) from error

    def note(self, step: str, told: Mapping[str, Any]) -> None:
        """Keep in run.json what a step was told, by what it was computed, and how it went."""
        record = self.record()
        record["slidebag_version"] = version("slidebag")
        record["steps"][step] = {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"), **told, **computed_by(),
        }  # fmt: skip
        with replacing(self.root / "run.json") as temporary:
            temporary.write_text(json.dumps(record, indent=2, default=str) + "\n")

    def read_table(self, name: str, *, hint: str = "run the step that makes it") -> pd.DataFrame:
        """Return a CSV of this run, every column as text.

        Raises:
            FormatError: it is not there, or no table.
        """
        path = self.root / name
        if not path.is_file():
            raise FormatError(f"{self.root}: has no {name}", hint=hint)
        try:
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        except ValueError as error:  # an empty file, or no text: pandas' own errors are of that kind
            why = str(error).partition("\n")[0]
            raise FormatError(f"{self.root}: {name} is damaged ({why})", hint=hint) from error

    def write_table(self, name: str, rows: pd.DataFrame) -> None:
        """Write a CSV of this run, whole or not at all."""
        with replacing(self.root / name) as temporary:
            rows.to_csv(temporary, index=False)


def n_tiles_of(row: Mapping[str, str]) -> int:
    """Return how many tiles a row of slides.csv tells of, 0 if it tells none; raises FormatError."""
    return int(_number_in(row, "n_tiles") or 0)  # a spreadsheet may have made 12.0 of it


def _number_in(row: Mapping[str, str], column: str) -> float | None:
    """Return a number in slides.csv, which may have been edited; None where nothing stands."""
    try:
        return float(row[column]) if row[column].strip() else None
    except ValueError as error:
        raise FormatError(
            f"{row['slide_id']}: {column} is {row[column]!r} in the run's slides.csv",
            hint="write a number, with a point",
        ) from error


def _is_told(slide: CohortSlide) -> bool:
    """Whether a table told anything of a slide."""
    is_own_patient = slide.patient_id in ("", slide.slide_id)
    return not is_own_patient or bool(slide.label or slide.split) or slide.mpp is not None


def _folder_of(encoder: str) -> str:
    name = Path(whole_path(encoder)).name if is_folder_name(encoder) else encoder
    return re.sub(r"[^\w.-]+", "_", name)
