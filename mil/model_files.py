"""The files of a model beside its weights: JSON with a version, and tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from tiling import FormatError, WriteError, replacing

MODEL_FORMAT_VERSION = 7


def read_config(folder: Path) -> dict[str, Any]:
    """Return what the config.json of a saved learner tells.

    Raises:
        FormatError: no model, a damaged one, or of another version.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FormatError(f"{folder}: no config.json, so no model", hint="train one, or name its folder")
    try:
        told = json.loads(path.read_text())
    except ValueError as error:
        raise FormatError(f"{path}: not JSON ({error})", hint="train again") from error
    found = told.get("format_version") if isinstance(told, dict) else None
    if not isinstance(found, int):
        raise FormatError(
            f"{path}: format version {found}, this slidebag reads up to {MODEL_FORMAT_VERSION}",
            hint="name a folder that slidebag has saved a model in",
        )
    if found < MODEL_FORMAT_VERSION:
        raise FormatError(f"{path}: format version {found} is of an earlier slidebag", hint="train again")
    if found > MODEL_FORMAT_VERSION:
        raise FormatError(
            f"{path}: format version {found}, this slidebag reads up to {MODEL_FORMAT_VERSION}",
            hint="upgrade slidebag or train again with this version",
        )
    missing = {"learner", "config", "classes", "dim", "weights_sha256"} - told.keys()
    if missing:
        raise FormatError(f"{path}: lacks {', '.join(sorted(missing))}", hint="train again")
    return told


def read_versioned(path: Path, version: int) -> dict[str, Any]:
    """Return what a JSON file of at most this format version holds.

    Raises:
        FormatError: it is of a newer version.
        KeyError, TypeError, ValueError: it is damaged, which whoever reads its parts tells.
    """
    told = json.loads(path.read_text())
    if told["format_version"] > version:
        raise FormatError(
            f"{path}: format version {told['format_version']}, this slidebag reads up to {version}",
            hint="upgrade slidebag or train again with this version",
        )
    return told


def withdraw(path: Path) -> None:
    """Remove a file, if it is there, before what it tells of is made anew.

    Raises:
        WriteError: the system does not let it be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be removed ({error.strerror})",
            hint="check permissions, and call the same again: what is whole is kept",
        ) from error


def write_tensors(path: Path, told: Mapping[str, np.ndarray], **words: str | int | tuple[str, ...]) -> None:
    """Write arrays, and `words` about them, as a safetensors file, whole or not at all."""
    arrays = {key: np.ascontiguousarray(value) for key, value in told.items()}
    with replacing(path) as temporary:
        # as one word: several are put in a random order, and equal models should be equal files
        temporary.write_bytes(save(arrays, {"told": json.dumps(words)} if words else None))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file in a model's folder.

    Raises:
        FormatError: it is not there, or damaged.
    """
    hint = f"remove {path.parent / 'recipe.json'}, then train again"
    if not path.is_file():
        raise FormatError(f"{path.parent}: has no {path.name}", hint=hint)
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise FormatError(f"{path}: damaged ({error})", hint=hint) from error


def read_words(path: Path) -> dict[str, Any]:
    """Return what was written about the arrays of a safetensors file; nothing where there is no whole one."""
    try:
        with safe_open(path, "np") as file:
            return json.loads((file.metadata() or {}).get("told", "{}"))
    except (OSError, SafetensorError):
        return {}
