"""Whole files only: written beside their place, renamed into it; and the attributes all of ours carry."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py

from .errors import FormatError, SlidebagError, WriteError

FORMAT_VERSION = 1
_NOT_WRITABLE = {
    getattr(errno, n) for n in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES") if hasattr(errno, n)
}
_SPARE_BYTES = 8 << 20  # for what else is written meanwhile
_LONGEST_NAME = 230  # bytes; more than 255 no file system takes, and a temporary file's has 18 more
_STALE_AFTER_S = 3600  # a neighbour untouched for so long was left by a killed process


def fingerprint(*parts: Any) -> str:
    """Return 12 hex digits that change with any value in `parts` (dataclasses or JSON values)."""
    told = [{type(p).__name__: asdict(p)} if is_dataclass(p) else p for p in parts]  # pyright: ignore[reportArgumentType]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of `path` that takes its place only if the block succeeds.

    So that a file exists means that it is whole.

    Raises:
        WriteError: there is no space, no permission to write there, or something else in its place.
    """
    with _told(path), _beside(path) as temporary:
        yield temporary


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except SlidebagError:
        raise
    except OSError as error:
        if error.errno is None or error.errno not in _NOT_WRITABLE:
            raise
        raise unwritable(path, error) from error


def _make_way(path: Path, *, is_folder: bool) -> None:
    """Make the folder that `path` will lie in; what stands in the way is told before the work, not after."""
    found = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
    if found.is_dir() != (is_folder or found is not path):
        raise WriteError(
            f"{path}: cannot be written ({found} is {'a' if found.is_dir() else 'no'} folder)",
            hint="choose another name, or move that away",
        )
    path.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    _make_way(path, is_folder=False)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; ours are for the group too
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """How the names of temporary neighbours begin."""
    is_long = len(os.fsencode(path.name)) > _LONGEST_NAME
    return f".{fingerprint(path.name) if is_long else path.name}."


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` that takes its place only if the block succeeds.

    Raises:
        WriteError: there is no space, no permission to write there, or something else in its place.
    """
    with _told(path), _folder_beside(path) as temporary:
        yield temporary


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    _make_way(path, is_folder=True)
    beside = {"dir": path.parent, "prefix": _prefix(path), "suffix": ".partial"}
    temporary, old = Path(tempfile.mkdtemp(**beside)), Path(tempfile.mkdtemp(**beside))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _exchange(path, temporary, old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(path: Path, new: Path, old: Path) -> None:
    """Move `path`, if it is there, onto the empty folder `old`, and `new` into its place; both or neither."""
    try:
        if path.exists():
            path.replace(old)  # a full folder cannot be replaced in one go
        new.replace(path)
    except BaseException:
        if not path.exists() and any(old.iterdir()):
            old.replace(path)
        raise


def unwritable(path: Path, error: OSError) -> WriteError:
    """Return what to tell of a file that the system does not let be written."""
    why = os.strerror(error.errno) if error.errno else str(error)
    return WriteError(
        f"{path}: cannot be written ({why})",
        hint="check free space and permissions, and call the same again: what is whole is kept",
    )


def check_room(folder: Path, n_bytes: int, what: str) -> None:
    """Raise WriteError, beginning with `what`, where a folder's disk has not the room for so many bytes."""
    n_free = shutil.disk_usage(folder).free
    if n_free < n_bytes + _SPARE_BYTES:
        raise WriteError(
            f"{what} needs {n_bytes / 1e6:,.1f} MB, {n_free / 1e6:,.1f} MB are free in {folder}",
            hint="make room, or choose a folder on another disk, and call the same again",
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def discard(path: Path) -> None:
    """Remove a file, if it is there, and what processes that were killed while they wrote it have left."""
    for each in (path, *path.parent.glob(f"{escape(_prefix(path))}*.partial")):
        each.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written below `folder`, untouched for an hour."""
    for left in folder.rglob(".*.partial"):
        with suppress(FileNotFoundError):  # another process was quicker
            touched = max(part.stat().st_mtime for part in (left, *left.rglob("*")))
            if time.time() - touched > _STALE_AFTER_S:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def format_attributes(kind: str) -> dict[str, Any]:
    """Return what every slidebag file says of itself: its format, and who wrote it when."""
    return {
        "format": f"slidebag.{kind}",
        "format_version": FORMAT_VERSION,
        "slidebag_version": version("slidebag"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_header(file: h5py.File, kind: str, attributes: Mapping[str, Any]) -> None:
    """Write the attributes that every slidebag HDF5 file carries (docs/formats.md), then `attributes`."""
    for name, value in (format_attributes(kind) | dict(attributes)).items():
        write_attribute(file, name, json.dumps(value) if isinstance(value, dict | list | tuple) else value)


def write_attribute(item: h5py.File | h5py.Dataset, name: str, value: Any) -> None:
    """Write an attribute; a text may come from a file name that is no UTF-8 and is kept as it is."""
    if isinstance(value, str):
        item.attrs.create(name, value.encode("utf-8", "surrogateescape"), dtype=h5py.string_dtype())
    else:
        item.attrs[name] = value


def open_checked(path: Path, kind: str) -> h5py.File:
    """Open a slidebag HDF5 file for reading.

    Raises:
        FormatError: `path` is no HDF5 file, another kind of file, or of a newer format version.
    """
    if not path.is_file():
        raise FormatError(f"{path}: no such file", hint=f"make the {kind} first")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(
            f"{path}: not a readable HDF5 file ({error})", hint="remove it and run the step again"
        ) from error
    try:
        with damage_told(path):
            check_format(file.attrs, kind, str(path))
    except FormatError:
        file.close()
        raise
    return file


def check_format(told: Mapping[str, Any], kind: str, place: str) -> None:
    """Raise FormatError where the attributes of the file at `place` tell another kind or a newer version."""
    found, found_version = told.get("format"), int(told.get("format_version", 0))
    if found != f"slidebag.{kind}":
        raise FormatError(
            f"{place}: format is {found!r}, wanted 'slidebag.{kind}'",
            hint="name a file of the right kind",
        )
    if found_version > FORMAT_VERSION:
        raise FormatError(
            f"{place}: format version {found_version}, this slidebag reads up to {FORMAT_VERSION}",
            hint="upgrade slidebag or make the file again with this version",
        )


def read_header(file: h5py.File) -> dict[str, Any]:
    """Return all root attributes of a slidebag file; `config` and `classes` come parsed.

    Looking up one that is not there raises FormatError.
    """
    with damage_told(file.filename):
        header = _Header(file.attrs.items())
        header.path = file.filename
        header.update({k: json.loads(header[k]) for k in ("config", "classes") if k in header})
    return header


class _Header(dict[str, Any]):
    path = ""

    def __missing__(self, name: str) -> Any:
        raise FormatError(f"{self.path}: has no attribute {name!r}", hint="make the file again")


def read_array(file: h5py.File, name: str) -> Any:
    """Return a whole dataset: an array, or bytes where it is one text.

    Raises:
        FormatError: the file has no such dataset.
    """
    with damage_told(file.filename):
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise FormatError(f"{file.filename}: has no dataset {name!r}", hint="make the file again")
        return dataset[()]


@contextmanager
def damage_told(place: Path | str) -> Iterator[None]:
    """Raise FormatError where what is read of the file at `place` makes no sense."""
    try:
        yield
    except SlidebagError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:  # the first two are HDF5's
        raise FormatError(
            f"{place}: is damaged ({error})", hint="remove it and run the step again"
        ) from error


def stored_fingerprint(path: Path) -> str | None:
    """Return the fingerprint stored in an HDF5 file of ours, None where there is none to trust."""
    try:
        with h5py.File(path, "r") as file:
            value = file.attrs.get("fingerprint")
    except (OSError, RuntimeError):
        return None  # absent or damaged: to be made again
    return None if value is None else str(value)
