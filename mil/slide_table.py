"""The tables that name slides: ours and other tools'."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tiling import SlidebagError

_ALIASES = {  # the column names of other tools' tables
    "slide": ("slide", "slide_id", "wsi", "filename", "FILENAME"),
    "label": ("label",),
    "patient": ("patient", "patient_id", "case_id", "PATIENT"),
    "mpp": ("mpp",),
    "split": ("split",),
}


class CohortError(SlidebagError, ValueError):
    """A slide table or folder that cannot be used as it is."""


def read_table(table: Path) -> pd.DataFrame:
    """Return what slidebag uses of a slide table, under our own names, all as text; raises CohortError."""
    rows = read_columns(table)
    return pd.DataFrame(rows, columns=[noun for noun in rows.columns if noun in _ALIASES])


def read_columns(table: Path) -> pd.DataFrame:
    """Return all columns of a slide table, those of `read_table` under our names too; raises CohortError."""
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise CohortError(f"{table}: no such file", hint="name the slide table, a CSV") from error
    except UnicodeDecodeError as error:
        raise CohortError(
            f"{table}: is not UTF-8 (byte 0x{error.object[error.start]:02x})",
            hint="save it as UTF-8; Excel calls that 'CSV UTF-8'",
        ) from error
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
                hint=_way_to(noun, list(rows.columns)),
            )
    return rows.assign(**{noun: rows[own] for own, noun in known.items()}).map(str.strip)


def _way_to(noun: str, columns: Sequence[str]) -> str:
    """What to do for a column that a table lacks."""
    if len(columns) == 1 and (found := next((mark for mark in ";\t|" if mark in columns[0]), "")):
        return f"the columns must be separated by commas, not by {found!r}"
    return f"add a column {noun!r}" + (" (empty where unknown)" if noun == "label" else "")


def few(names: Sequence[str]) -> str:
    """Return the first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def names_of(files: dict[str, Path]) -> dict[str, list[str]]:
    """Return every name a table may call a slide by, with the ids it could mean."""
    names: dict[str, list[str]] = {}
    for slide_id, path in files.items():
        for name in names_of_one(slide_id, path):
            names.setdefault(name, []).append(slide_id)
    return names


def names_of_one(slide_id: str, path: Path) -> set[str]:
    """Return every name a table may call one slide by."""
    last = slide_id.rpartition("/")[2]  # of a DICOM series the folder, which its file does not name
    return {slide_id, slide_id + path.suffix, last, path.name, path.stem}


def matched(rows: pd.DataFrame, files: dict[str, Path], table: Path, where: str) -> list[str]:
    """Return the id of the slide that each row of a table names, "" where it is none of `files`, by id.

    `where` says in words where they are.

    Raises:
        CohortError: no row names one of them, two rows name the same, or a name could mean several.
    """
    names = names_of(files)
    found = [match(name, names, table) or "" for name in rows["slide"]]
    own = [slide_id for slide_id in found if slide_id]
    if twice := [slide_id for slide_id, n in Counter(own).items() if n > 1]:
        raise CohortError(
            f"{table}: slide {twice[0]!r} stands there twice", hint="keep one row for each slide"
        )
    if files and not own:
        raise CohortError(
            f"{table}: none of its {len(rows)} slides is {where}",
            hint="the column 'slide' names them by path below the slide folder or by file name",
        )
    return found


def match(name: str, names: dict[str, list[str]], table: Path) -> str | None:
    """Return the id that a table's name means, None if there is no such slide; raises CohortError."""
    found = names.get(Path(name).as_posix(), [])
    if exact := [slide_id for slide_id in found if name in (slide_id, slide_id + Path(name).suffix)]:
        return exact[0]  # its path below the folder
    if len(found) > 1:
        raise CohortError(
            f"{table}: slide {name!r} could be {' or '.join(found)}",
            hint="name it by its path below the folder",
        )
    return found[0] if found else None
