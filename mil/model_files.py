"""Reading the tensors beside a model's weights."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from tiling import FormatError


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
