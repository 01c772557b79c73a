"""Learners of one network that the bag term alone teaches: the training and the reading that they share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from tiling import ConfigError

from .bag import Bag
from .bag_term import Balance, bag_loss, slide_log_probability
from .classes import Classes, Labels
from .course import Course
from .early_stopping import BestEpoch
from .learner import DivergedError, Learner, Prediction
from .packed import PackedBags, Standardiser
from .small_net import Trunk

LEARNING_RATES = (2e-4, 2e-2, "log")  # that a sweep looks among


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """How a network is trained from bags."""

    hidden: int = field(default=64, metadata={"help": "width of the hidden layer"})
    epochs: int = field(default=100, metadata={"help": "passes over the training bags"})
    bags_per_step: int = field(default=8, metadata={"help": "bags seen in one step"})
    tiles_per_bag: int = field(default=4096, metadata={"help": "at most so many tiles of a bag in one step"})
    learning_rate: float = field(
        default=2e-3, metadata={"help": "step size of AdamW", "sweep": LEARNING_RATES}
    )
    weight_decay: float = field(
        default=1e-2, metadata={"help": "pull of the weights to zero", "sweep": (1e-4, 0.3, "log")}
    )
    patience: int = field(
        default=0,
        metadata={"help": "stop after so many epochs without a lower validation loss; 0 is never"},
    )

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "bags_per_step", "tiles_per_bag"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give 1 or more")
        if self.patience < 0:
            raise ConfigError(f"patience is {self.patience}", hint="give 0 or more")
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise ConfigError(
                f"learning_rate is {self.learning_rate:g}, weight_decay {self.weight_decay:g}",
                hint="give a finite learning rate above 0 and a finite weight decay of 0 or more",
            )


@dataclass(frozen=True)
class Step:
    """The bags of one step: instances in runs of `counts` (B,), what is known of them, and the dice."""

    counts: Tensor
    labels: Tensor
    classes: Classes
    balance: Balance
    generator: torch.Generator

    def bag_loss(self, pooled: Tensor, n_parts: Tensor | None = None) -> Tensor:
        """Return the bag term of pooled margins (B, K), or of (P, K) where bags are in `n_parts` (B,)."""
        labels = self.labels if n_parts is None else self.labels.repeat_interleave(n_parts, dim=0)
        return bag_loss(pooled, labels, self.classes, self.balance)


class BagNet(Trunk, ABC):
    """A network that sees the instances of a bag one by one, in `embed`, and then together."""

    @abstractmethod
    def loss(self, embedded: Tensor, step: Step) -> Tensor:
        """Return what is to be made small: embedded instances (N, H), bag after bag."""

    @abstractmethod
    def read(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins (1, K) and the tile probabilities (N, T) of one bag (N, H)."""


class NetLearner(Learner):
    """One `BagNet`, trained by AdamW over bags in random order.

    The last epoch counts, or with `patience` the one of the least loss on validation bags. Its config is a
    `NetConfig`.
    """

    @property
    def heeds_validation(self) -> bool:
        """Whether it stops early."""
        return self.config.patience > 0

    @abstractmethod
    def _new_net(self, generator: torch.Generator) -> BagNet:
        """Return an untrained network for `self.dim` and `self.classes`, drawn from `generator`."""

    def _fit(self, bags: Sequence[Bag], labels: Labels, seed: int, course: Course) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._standardise = Standardiser.of(bags)
        self._balance = Balance.of(labels, len(self.classes.names))
        self._net = self._new_net(generator)
        packed = PackedBags.of(bags, labels)
        optimizer = torch.optim.AdamW(
            self._net.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        best = BestEpoch()
        stage = course.stage(epochs=self.config.epochs)
        carried = {"net": self._net, "optimizer": optimizer, "generator": generator, "best": best}
        for epoch in stage.epochs(self.config.epochs, **carried):
            told = {"epoch": epoch, "loss": self._train(packed, optimizer, generator)}
            if course.validation is not None:
                told["validation_loss"] = self._loss_on(*course.validation)
                best.heed(epoch, told["validation_loss"], self._net)
            stage.report(told)
            if course.validation is not None and epoch - best.epoch >= self.config.patience:
                break
        if course.validation is not None and best.epoch < 0:
            raise DivergedError(
                f"the validation loss was not a number in any of {len(course.history)} epochs",
                hint=f"give a learning_rate lower than {self.config.learning_rate:g}",
            )
        best.restore(self._net)
        self.n_epochs = best.epoch + 1

    def _train(
        self, packed: PackedBags, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> float:
        """Pass over the bags once; return the mean loss of the steps."""
        losses = []
        order = torch.randperm(len(packed.counts), generator=generator)
        for chosen in order.split(self.config.bags_per_step):
            rows, counts = packed.rows_of(chosen, self.config.tiles_per_bag, generator)
            embedded = self._net.embed(self._standardise(packed.draw(rows, generator)))
            step = Step(counts, packed.labels[chosen], self.classes, self._balance, generator)
            loss = self._net.loss(embedded, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    @torch.inference_mode()
    def _loss_on(self, bags: Sequence[Bag], labels: Labels) -> float:
        """Return the bag term of bags that are not trained on, of all their tiles."""
        pooled = torch.cat([self._read(bag)[0] for bag in bags])
        return float(bag_loss(pooled, torch.tensor(labels), self.classes, self._balance))

    def _read(self, bag: Bag) -> tuple[Tensor, Tensor]:
        parts = self._standardise.parts(bag.features)
        return self._net.read(torch.cat([self._net.embed(part) for part in parts]))

    @torch.inference_mode()
    def _predict(self, bag: Bag) -> Prediction:
        pooled, tiles = self._read(bag)
        return Prediction(
            bag.id,
            slide_log_probability(pooled, self.classes, self._balance).exp()[0].numpy(),
            tiles.numpy(),
            np.full(len(bag), -1, np.int16),
        )

    def _state(self) -> dict[str, np.ndarray]:
        return module_state(self._net, self._standardise, self._balance)

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._net = self._new_net(torch.Generator())
        self._standardise, self._balance = restore_module(self._net, state)


def module_state(net: nn.Module, standardise: Standardiser, balance: Balance) -> dict[str, np.ndarray]:
    """Return a network and what it stands on as named arrays."""
    return {f"net.{key}": value.numpy() for key, value in net.state_dict().items()} | {
        "features.mean": standardise.mean.numpy(),
        "features.scale": standardise.scale.numpy(),
        "bags.weight": balance.weight.numpy(),
        "bags.log_prior": balance.log_prior.numpy(),
    }


def restore_module(net: nn.Module, state: Mapping[str, np.ndarray]) -> tuple[Standardiser, Balance]:
    """Put what `module_state` gave back into `net`; return the other two."""
    tensors = {key: torch.from_numpy(value.copy()) for key, value in state.items()}
    net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
    return (
        Standardiser(tensors["features.mean"], tensors["features.scale"]),
        Balance(tensors["bags.weight"], tensors["bags.log_prior"]),
    )
