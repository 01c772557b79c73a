"""What a network learns by: an objective says what is trained, what is lost, and what becomes the encoder."""

from abc import ABC, abstractmethod
from typing import Any

import torch

from .batches import Batch
from .networks import Plan

Losses = dict[str, torch.Tensor]


class Objective(torch.nn.Module, ABC):
    """Networks and losses; all that is to be carried on through a stop are its parameters and buffers.

    `student` is what the optimizer moves.
    """

    student: Any

    def __init__(self, plan: Plan, *, is_reduced: bool) -> None:
        super().__init__()
        self._is_reduced = is_reduced
        self._spread: tuple[Any, ...] = ()  # where torch does not take it for a part of this
        self.register_buffer("mean", torch.tensor(plan.card.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(plan.card.std).view(3, 1, 1), persistent=False)

    @abstractmethod
    def losses(self, batch: Batch, done: float) -> Losses:
        """Return the losses of a batch by name; `done` is the share of all steps that are behind."""

    def after_step(self, done: float) -> None:
        """Bring what follows the student on, after it was moved."""
        del done

    @property
    @abstractmethod
    def trunk(self) -> torch.nn.Module:
        """What becomes the encoder."""

    def spread(self) -> None:
        """Let gradients of the student be the mean over all processes, and buffers those of the first."""
        for buffer in self.buffers():
            torch.distributed.broadcast(buffer, 0)
        self._spread = (torch.nn.parallel.DistributedDataParallel(self.student),)

    def learn(self, images: Any) -> Any:
        """Return what the student makes of images, in the precision that was asked for."""
        with self.computing():
            return self._spread[0](images) if self._spread else self.student(images)

    def computing(self) -> torch.autocast:
        """Return what networks compute in; losses are float32."""
        mean: Any = self.mean
        return torch.autocast(mean.device.type, torch.bfloat16, enabled=self._is_reduced)

    def images(self, view: torch.Tensor) -> torch.Tensor:
        """Return normalised float32 images of uint8 ones (n, 3, H, W), on the device."""
        mean: Any = self.mean
        return (view.to(mean.device, non_blocking=True).float() / 255 - mean) / self.std
