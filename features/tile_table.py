"""The table that names tile pictures and says what is known of each."""

import csv
from collections import Counter
from pathlib import Path

from tiling import ConfigError, FormatError

_ALIASES = {
    "file": ("file", "path", "tile", "filename"),
    "label": ("label", "class"),
    "group": ("group", "patient", "patient_id", "case_id", "source"),
    "batch": ("batch", "site", "scanner", "center", "centre", "stain"),
}


def read_tile_table(table: Path, group_column: str, batch_column: str) -> list[tuple[str, ...]]:
    """Return names, labels, groups and batches of the pictures in a CSV, in the order of their names.

    A name is a path below the table's folder, or an absolute one. What the table has no column for is "".

    Raises:
        FormatError: it cannot be read, has no column of files, names one twice, or leaves a group out.
        ConfigError: a column is asked for that is not there, or several could be meant.
    """
    header, rows = _read(table)
    columns = {
        "file": _one_of("file", header), "label": _one_of("label", header),
        "group": _chosen("group", header, group_column, table),
        "batch": _chosen("batch", header, batch_column, table),
    }  # fmt: skip
    if not columns["file"]:
        raise FormatError(
            f"{table}: has no column 'file', its columns are {', '.join(header)}", hint="add a column 'file'"
        )
    told = {noun: [row.get(own, "").strip() for row in rows] for noun, own in columns.items()}
    _refuse_gaps(told, columns, table)
    told["file"] = [Path(name).as_posix() for name in told["file"]]
    name, n_times = next(iter(Counter(told["file"]).most_common(1)), ("", 0))
    if n_times > 1:
        raise FormatError(f"{table}: names {name} {n_times} times", hint="name each picture once")
    order = sorted(range(len(rows)), key=told["file"].__getitem__)
    return [tuple(values[row] for row in order) for values in told.values()]


def _read(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            return header, [dict(zip(header, row, strict=False)) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise FormatError(
            f"{table}: cannot be read as CSV ({error})",
            hint="give a folder of pictures, or a CSV with a header",
        ) from error


def _one_of(noun: str, header: list[str]) -> str:
    return next((name for name in _ALIASES[noun] if name in header), "")


def _chosen(noun: str, header: list[str], asked: str, table: Path) -> str:
    """The column that is asked for, or the only one that could be meant."""
    if asked:
        if asked not in header:
            raise ConfigError(
                f"{table}: has no column {asked!r}, its columns are {', '.join(header)}",
                hint=f"check --{noun}-column",
            )
        return asked
    could_be = [name for name in _ALIASES[noun] if name in header]
    if len(could_be) > 1:
        raise ConfigError(
            f"{table}: columns {', '.join(could_be)} could each be the {noun}",
            hint=f"say which by --{noun}-column",
        )
    return could_be[0] if could_be else ""


def _refuse_gaps(told: dict[str, list[str]], columns: dict[str, str], table: Path) -> None:
    for noun in ("file", "group", "batch"):
        if columns[noun] and (n_empty := told[noun].count("")):
            raise FormatError(
                f"{table}: {columns[noun]} is empty in {n_empty} of {len(told[noun])} rows",
                hint="fill it in, or leave the rows out",
            )
