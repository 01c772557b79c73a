"""The checkpoint of a training: one safetensors file with all that it goes on from, never a pickle."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiling import FormatError, discard

from .tensor_file import write_tensors

if TYPE_CHECKING:  # torch waits until there is something to write or to read
    from torch import Tensor

_VERSION = "1"  # of the file; what trainings carry on is told by their identity


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: epochs that are done, their reports, results, and state by name."""

    epoch: int
    history: list[dict[str, float]]
    results: dict[str, Any]
    state: dict[str, Any]

    def restore(self, carried: Mapping[str, Any]) -> None:
        """Bring what was carried on back to where it was."""
        for name, thing in carried.items():
            _restore(thing, self.state[name])


@dataclass(frozen=True)
class Checkpoint:
    """Where the checkpoint of the training `identity` lies; that of another one in its place is none."""

    path: Path
    identity: str

    def write(
        self,
        epoch: int,
        history: list[dict[str, float]],
        results: Mapping[str, Any],
        carried: Mapping[str, Any],
    ) -> None:
        """Write down what is `carried` on: modules, optimizers, generators, tensors, plain objects of these.

        Raises:
            WriteError: there is no space, or no permission.
        """
        tensors: dict[str, Tensor] = {}
        told = {
            "identity": self.identity,
            "epoch": epoch,
            "history": history,
            "results": results,
            "state": {name: _encode(_state_of(thing), name, tensors) for name, thing in carried.items()},
        }
        header = {"format": "slidebag.checkpoint", "format_version": _VERSION, "told": json.dumps(told)}
        write_tensors(self.path, tensors, header)

    def remove(self) -> None:
        """Remove it, and what a process that was killed while it wrote has left beside it."""
        discard(self.path)

    def read(self) -> Saved | None:
        """Return what is there of this training, None where there is nothing.

        Raises:
            FormatError: the file is damaged.
        """
        if not self.path.is_file():
            return None
        with self._opened() as (file, told):
            if told is None:
                return None
            # copies: views would hold the file for as long as the fit, and change with it
            names = file.keys()
            tensors = {name: file.get_tensor(name).clone() for name in names}
            state = {name: _decode(value, tensors) for name, value in told["state"].items()}
            return Saved(told["epoch"], told["history"], told["results"], state)

    def is_of_another(self) -> bool:
        """Return whether what is there is of another training; raises as `read` does."""
        if not self.path.is_file():
            return False
        with self._opened() as (_, told):
            return told is None

    @contextmanager
    def _opened(self) -> "Iterator[tuple[Any, dict[str, Any] | None]]":
        """Yield the file and what its header tells, None if it is of another training."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                header = file.metadata()
                told = json.loads(header["told"])
                is_own = header["format_version"] == _VERSION and told["identity"] == self.identity
                yield file, told if is_own else None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{self.path}: damaged checkpoint ({error})", hint="remove it, and it begins anew"
            ) from error


def _state_of(thing: Any) -> Any:
    import torch

    if isinstance(thing, torch.Tensor):
        return thing
    if isinstance(thing, torch.Generator):
        return thing.get_state()
    return thing.state_dict() if hasattr(thing, "state_dict") else vars(thing)


def _restore(thing: Any, state: Any) -> None:
    import torch

    if isinstance(thing, torch.Tensor):
        with torch.no_grad():
            thing.copy_(state)
    elif isinstance(thing, torch.Generator):
        thing.set_state(state)
    elif hasattr(thing, "load_state_dict"):
        thing.load_state_dict(state)
    else:
        vars(thing).update(state)


def _encode(value: Any, name: str, tensors: "dict[str, Tensor]") -> Any:
    """Put tensors aside by name; what is left is for JSON, in which keys that are numbers stay numbers."""
    import torch

    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"pairs": [[key, _encode(each, f"{name}.{key}", tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [_encode(each, f"{name}.{k}", tensors) for k, each in enumerate(value)]
    return value


def _decode(value: Any, tensors: "Mapping[str, Tensor]") -> Any:
    if isinstance(value, list):
        return [_decode(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _decode(each, tensors) for key, each in value["pairs"]}
