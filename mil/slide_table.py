"""Slide files below a folder, and the tables that name them: ours and other tools'."""

from pathlib import Path

import pandas as pd

from tiling import SlidebagError

SUFFIXES = frozenset(
    ".svs .tif .tiff .ndpi .vms .vmu .scn .mrxs .svslide .bif .dcm .czi".split()  # noqa: SIM905
)
_ALIASES = {  # the column names of other tools' tables
    "slide": ("slide", "slide_id", "wsi", "filename", "FILENAME"),
    "label": ("label",),
    "patient": ("patient", "patient_id", "case_id", "PATIENT"),
    "mpp": ("mpp",),
    "split": ("split",),
}


class CohortError(SlidebagError, ValueError):
    """A slide table or folder that cannot be used as it is."""


def find_slides(folder: Path) -> dict[str, Path]:
    """Return slide files by id: the path below the folder without its suffix; raises CohortError."""
    if folder.is_file():
        return {folder.stem: folder}
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder", hint="name the folder that holds the slides")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        if path.name.startswith("."):
            continue
        slide_id = path.relative_to(folder).with_suffix("").as_posix()
        if slide_id in found:
            raise CohortError(
                f"{found[slide_id].name} and {path.name} would both be slide {slide_id!r}",
                hint="rename one of them",
            )
        found[slide_id] = path
    if not found:
        raise CohortError(f"{folder}: no slides there", hint=f"slides end in {' '.join(sorted(SUFFIXES))}")
    return found


def read_table(table: Path) -> pd.DataFrame:
    """Return a slide table under our own column names, all as text; raises CohortError."""
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise CohortError(
            f"{table}: cannot be read as CSV ({error})", hint="give a CSV with a header line"
        ) from error
    rows = rows.rename(columns=str.strip)
    known = {}
    for noun, aliases in _ALIASES.items():
        present = [a for a in aliases if a in rows.columns]
        if present:
            known[present[0]] = noun
    for noun in ("slide", "label"):
        if noun not in known.values():
            raise CohortError(
                f"{table}: has no column {noun!r}, its columns are {', '.join(rows.columns)}",
                hint=f"add a column {noun!r}" + (" (empty where unknown)" if noun == "label" else ""),
            )
    return pd.DataFrame(rows.rename(columns=known), columns=list(known.values())).map(str.strip)


def names_of(files: dict[str, Path]) -> dict[str, list[str]]:
    """Return every name a table may call a slide by, with the ids it could mean."""
    names: dict[str, list[str]] = {}
    for slide_id, path in files.items():
        for name in {slide_id, slide_id + path.suffix, path.name, path.stem}:
            names.setdefault(name, []).append(slide_id)
    return names


def match(name: str, names: dict[str, list[str]], table: Path) -> str | None:
    """Return the id that a table's name means, None if there is no such slide; raises CohortError."""
    found = names.get(Path(name).as_posix(), [])
    if name in found:
        return name
    if len(found) > 1:
        raise CohortError(
            f"{table}: slide {name!r} could be {' or '.join(found)}",
            hint="name it by its path below the folder",
        )
    return found[0] if found else None
