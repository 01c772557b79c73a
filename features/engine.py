"""Engines: what computes a network, in which precision, and so many patches at a time as memory holds."""

import importlib.util
import warnings
from abc import ABC, abstractmethod

import numpy as np
import torch

from tiling import ConfigError, SlidebagError

from .encoder import EncoderCard, EncoderConfig

_NO_MEMORY = ("out of memory", "allocate memory", "bad_alloc", "bad allocation", "could not allocate")


class Engine(ABC):
    """Runs a network on uint8 patches; normalising them by the card's mean and std is its task."""

    name: str
    precision: str
    batch: int  # patches at a time that suit it; fewer where memory has run out

    def run(self, patches: np.ndarray) -> list[np.ndarray]:
        """Return the network's outputs, float32, first axis n, for uint8 patches (n, H, W, 3), n > 0.

        Raises:
            SlidebagError: memory does not hold a single patch.
        """
        while True:
            try:
                return self._run(patches)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                tried = min(self.batch, len(patches))
                if tried == 1:
                    height, width = patches.shape[1:3]
                    raise SlidebagError(
                        f"{self.name} has no memory for one patch of {width} × {height} px",
                        hint="end other programs, take a smaller encoder, or another --device",
                    ) from error
            self.batch = tried // 2  # out here, where the error no longer keeps what it was computed from

    @abstractmethod
    def _run(self, patches: np.ndarray) -> list[np.ndarray]:
        """Do what `run` says, `batch` patches at a time; memory may run out."""


class UnsuitedError(ConfigError):
    """An engine cannot compute this network; another may."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of whatever library, says that there was no memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in _NO_MEMORY)


def start_engine(network: torch.nn.Module, card: EncoderCard, config: EncoderConfig, device: str) -> Engine:
    """Return the engine that a config asks for, ready to run `network` on `device`.

    `auto` is OpenVINO on a CPU where it is installed, has the precision and can compute the network;
    else torch.

    Raises:
        ConfigError: the engine is not installed, or engine, precision and device do not go together.
    """
    if _takes_openvino(config, device):
        from .openvino_engine import OpenVinoEngine

        try:
            return OpenVinoEngine(network, card, config.precision)
        except UnsuitedError as error:
            if config.engine == "openvino" or config.precision == "int8":
                raise
            warnings.warn(f"{error.message}; it is left to torch", stacklevel=2)
    from .torch_engine import TorchEngine

    return TorchEngine(network, card, config.precision, device=device)


def _takes_openvino(config: EncoderConfig, device: str) -> bool:
    if config.engine == "torch":
        return False
    on_cpu = torch.device(device).type == "cpu"
    if config.engine == "openvino" and not on_cpu:
        raise ConfigError(
            f"engine openvino does not compute on {device}", hint="use --device cpu, or --engine torch"
        )
    installed = importlib.util.find_spec("openvino") is not None
    if config.engine == "openvino" and not installed:
        raise ConfigError("engine openvino is not installed", hint="pip install 'slidebag[fast]'")
    if config.engine == "openvino":
        return True
    if not (on_cpu and installed):
        return False
    from .openvino_engine import openvino_precisions

    return config.precision == "auto" or config.precision in openvino_precisions()
