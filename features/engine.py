"""Engines: what computes a network, and in which precision."""

from abc import ABC, abstractmethod

import numpy as np
import torch

from .encoder import EncoderCard, EncoderConfig


class Engine(ABC):
    """Runs a network on uint8 patches; normalising them by the card's mean and std is its task."""

    name: str
    precision: str
    batch: int  # patches at a time that suit it

    @abstractmethod
    def run(self, patches: np.ndarray) -> list[np.ndarray]:
        """Return the network's outputs, float32, first axis n, for uint8 patches (n, H, W, 3), n > 0."""


class TorchEngine(Engine):
    """torch on any device."""

    name = "torch"
    batch = 64

    def __init__(self, network: torch.nn.Module, card: EncoderCard, *, precision: str, device: str) -> None:
        self.precision = precision
        self._device = torch.device(device)
        self._network = network.eval().requires_grad_(requires_grad=False).to(self._device)
        self._mean = torch.tensor(card.mean, device=self._device).view(3, 1, 1)
        self._std = torch.tensor(card.std, device=self._device).view(3, 1, 1)

    @torch.inference_mode()
    def run(self, patches: np.ndarray) -> list[np.ndarray]:
        """Return the network's outputs, float32, first axis n, for uint8 patches (n, H, W, 3), n > 0."""
        images = torch.from_numpy(patches).to(self._device).permute(0, 3, 1, 2)  # uint8 (n, 3, H, W)
        images = (images.float() / 255 - self._mean) / self._std
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            found = self._network(images)
        return [each.float().cpu().numpy() for each in (found if isinstance(found, tuple) else (found,))]


def start_engine(network: torch.nn.Module, card: EncoderCard, config: EncoderConfig, device: str) -> Engine:
    """Return the engine that a config asks for, ready to run `network` on `device`."""
    precision = "float32" if config.precision == "auto" else config.precision
    return TorchEngine(network, card, precision=precision, device=device)
