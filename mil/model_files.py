"""The files of a model beside its weights: JSON with a version, and tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tiling import FormatError, replacing


def read_versioned(path: Path, version: int) -> dict[str, Any]:
    """Return what a JSON file of at most this format version holds.

    Raises:
        FormatError: it is of a newer version.
        KeyError, TypeError, json.JSONDecodeError: it is damaged, which whoever reads its parts tells.
    """
    told = json.loads(path.read_text())
    if told["format_version"] > version:
        raise FormatError(
            f"{path}: format version {told['format_version']}, this slidebag reads up to {version}",
            hint="upgrade slidebag or train again with this version",
        )
    return told


def write_tensors(path: Path, told: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a safetensors file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(save({key: np.ascontiguousarray(value) for key, value in told.items()}))


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
