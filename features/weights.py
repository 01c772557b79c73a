"""Local weights: safetensors, or PyTorch files read without unpickling code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tiling import ConfigError

_WRAPPERS = ("state_dict", "model", "teacher")  # under which training scripts keep the weights
_SPARE = ("head", "fc", "classifier", "mask_token")  # what a frozen encoder has no use for


def load_weights(model: torch.nn.Module, path: str, *, convert: Callable[..., Any] | None = None) -> None:
    """Load a weight file into a model; `convert(state, model)` translates other people's names.

    Raises:
        ConfigError: the file is damaged, holds more than tensors, or does not fit the model.
    """
    state = _read(Path(path))
    if convert is not None:
        state = _converted(state, model, convert, path)
    wanted = model.state_dict()
    spare = {k for k in state if k not in wanted and k.startswith(_SPARE)}
    state = {k: v for k, v in state.items() if k not in spare}
    wrong = sorted(wanted.keys() ^ state.keys())
    wrong += [k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape]
    if wrong:
        raise ConfigError(
            f"weights {path} do not fit {type(model).__name__}: {len(wrong)} tensors differ, as {wrong[0]}",
            hint="name the encoder that these weights were made for",
        )
    model.load_state_dict(state)


def _converted(
    state: dict[str, torch.Tensor], model: torch.nn.Module, convert: Callable[..., Any], path: str
) -> dict[str, torch.Tensor]:
    try:
        return convert(state, model)
    except (LookupError, AttributeError, ValueError, RuntimeError) as error:  # names or shapes it never met
        raise ConfigError(
            f"weights {path} do not fit {type(model).__name__} ({type(error).__name__}: {error})",
            hint="name the encoder that these weights were made for",
        ) from error


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler fed with anything raises anything
        raise ConfigError(
            f"weights {path} cannot be read ({type(error).__name__})",
            hint="give a whole .safetensors or .pth file",
        ) from error
    for wrapper in _WRAPPERS:
        state = state.get(wrapper, state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise ConfigError(f"weights {path} hold a {type(state).__name__}, wanted tensors by name")
    return {k.removeprefix("module.").removeprefix("backbone."): v for k, v in state.items()}
