"""Local weights: safetensors, or PyTorch files read without unpickling code."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tiling import ConfigError, fingerprint

from .encoder_folder import file_sha256
from .hub import FILES

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model", "teacher")  # under which training scripts keep the weights
# what a frozen encoder has no use for
_SPARE = ("head", "fc", "classifier", "mask_token", "dino_head", "ibot_head")


def load_weights(
    model: torch.nn.Module, path: Path, *, translate: Callable[..., Any], preferred: str = ""
) -> None:
    """Load a weight file, or a folder that holds one, into a model.

    `translate(state, model)` turns other people's names into the model's; `preferred` is the file to
    take where a folder holds several.

    Raises:
        ConfigError: the file is damaged, holds more than tensors, or does not fit the model.
    """
    file = _file_in(path, preferred) if path.is_dir() else path
    state = _translated(_read(file), model, translate, file)
    wanted = model.state_dict()
    spare = {k for k in state if k not in wanted and k.startswith(_SPARE)}
    state = {k: v for k, v in state.items() if k not in spare}
    wrong = sorted(wanted.keys() ^ state.keys())
    wrong += [k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape]
    if wrong:
        raise ConfigError(
            f"weights {file} do not fit {type(model).__name__}: {len(wrong)} tensors differ, as {wrong[0]}",
            hint="name the encoder that these weights were made for",
        )
    model.load_state_dict(state, assign=True)  # the model may have had none of its own


def _file_in(folder: Path, preferred: str) -> Path:
    index = f"{FILES[0]}.index.json"  # a checkpoint in several files
    named = [folder / name for name in (preferred, *FILES, index) if name and (folder / name).is_file()]
    found = named or sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    if not named and len(found) != 1:
        told = ", ".join(p.name for p in found[:4]) or "none"
        raise ConfigError(
            f"weights {folder}: wanted a folder with one weight file, found {told}",
            hint="give the file itself with --weights",
        )
    return found[0]


def _translated(
    state: dict[str, torch.Tensor], model: torch.nn.Module, translate: Callable[..., Any], path: Path
) -> dict[str, torch.Tensor]:
    try:
        return translate(state, model)
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:  # never met its like
        raise ConfigError(
            f"weights {path} do not fit {type(model).__name__} ({type(error).__name__}: {error})",
            hint="name the encoder that these weights were made for",
        ) from error


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".json":
            state = {k: v for shard in _shards(path) for k, v in load_file(shard).items()}
        elif path.suffix == ".safetensors":
            state = load_file(path)
        else:
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
    return {k.removeprefix("module.").removeprefix("backbone."): _exact(v) for k, v in state.items()}


def weights_sha256(place: Path) -> str:
    """Return the SHA-256 of a weight file; of several, in a folder or an index, that of names and digests."""
    files = [place]
    if place.is_dir():
        found = [each for each in place.iterdir() if not each.name.startswith(".")]
        files = [each for each in found if each.suffix in (*_SUFFIXES, ".json") and each.is_file()]
    elif place.suffix == ".json":
        with suppress(ValueError, LookupError, AttributeError, TypeError):  # who loads it tells what is wrong
            files = [shard for shard in _shards(place) if shard.is_file()]
    if files == [place]:
        return file_sha256(place)
    return fingerprint({file.name: file_sha256(file) for file in files})


def _shards(index: Path) -> list[Path]:
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return [index.parent / name for name in sorted(names)]


def _exact(value: Any) -> Any:
    """Return a float32 tensor for a shorter one, so that nothing is computed in less while loading."""
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
