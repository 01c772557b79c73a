"""The baselines: a small instance network that learns from the bag term alone, one way of pooling each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tiling import ConfigError

from .bag_term import POOLINGS, Balance, bag_loss, slide_log_probability, tile_probability
from .classes import Labels
from .learner import LEARNERS, Bag, Learner, Prediction, Report
from .packed import InstanceHead, PackedBags, Standardiser, chunks
from .small_net import SmallNet


@dataclass(frozen=True, kw_only=True)
class PoolingConfig:
    """How a pooling baseline is trained."""

    hidden: int = field(default=64, metadata={"help": "width of the hidden layer"})
    epochs: int = field(default=100, metadata={"help": "passes over the training bags"})
    bags_per_step: int = field(default=8, metadata={"help": "bags seen in one step"})
    tiles_per_bag: int = field(default=4096, metadata={"help": "at most so many tiles of a bag in one step"})
    learning_rate: float = field(default=2e-3, metadata={"help": "step size of AdamW"})
    weight_decay: float = field(default=1e-2, metadata={"help": "pull of the weights to zero"})

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "bags_per_step", "tiles_per_bag"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give 1 or more")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ConfigError(
                f"learning_rate is {self.learning_rate:g}, weight_decay {self.weight_decay:g}",
                hint="give a learning rate above 0 and a weight decay of 0 or more",
            )


class PoolingLearner(Learner):
    """Instance margins pooled to the bag's; the tiles' probabilities are the margins themselves."""

    config: PoolingConfig
    config_class = PoolingConfig
    pooling: ClassVar[str]

    def _fit(self, bags: Sequence[Bag], labels: Labels, seed: int, report: Report) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._standardise = Standardiser.of(bags)
        self._balance = Balance.of(labels, len(self.classes.names))
        self._net = self._new_net(generator)
        packed = PackedBags.of(bags, labels)
        optimizer = torch.optim.AdamW(
            self._net.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        for epoch in range(self.config.epochs):
            losses = []
            for chosen in torch.randperm(len(bags), generator=generator).split(self.config.bags_per_step):
                loss = self._loss(packed, chosen, generator)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            report({"epoch": epoch, "epochs": self.config.epochs, "bag_loss": float(np.mean(losses))})

    def _loss(self, packed: PackedBags, chosen: Tensor, generator: torch.Generator) -> Tensor:
        rows, counts = packed.rows_of(chosen, self.config.tiles_per_bag, generator)
        margins = self._net(self._standardise(packed.features[rows]))
        pooled = POOLINGS[self.pooling](margins, counts)
        return bag_loss(pooled, packed.labels[chosen], self.classes, self._balance)

    @torch.inference_mode()
    def _predict(self, bag: Bag) -> Prediction:
        rows = [self._standardise(torch.from_numpy(part)) for part in chunks(bag.features)]
        margins = torch.cat([self._net(part) for part in rows])
        pooled = POOLINGS[self.pooling](margins, torch.tensor([len(bag)]))
        return Prediction(
            bag.id,
            slide_log_probability(pooled, self.classes, self._balance).exp()[0].numpy(),
            tile_probability(margins).numpy(),
            np.full(len(bag), -1, np.int16),
        )

    def instance_head(self) -> InstanceHead:
        """Return standardiser and net."""
        return InstanceHead(self._standardise, [self._net])

    def _new_net(self, generator: torch.Generator) -> SmallNet:
        return SmallNet(self.dim, self.config.hidden, self.classes.n_positive, generator)

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


@LEARNERS.register("mean")
class MeanPooling(PoolingLearner):
    """The mean margin is the bag's: each instance votes."""

    name = pooling = "mean"


@LEARNERS.register("max")
class MaxPooling(PoolingLearner):
    """The strongest instance is the bag's: the standard assumption taken literally."""

    name = pooling = "max"


@LEARNERS.register("mix")
class MixPooling(PoolingLearner):
    """The middle of mean and maximum: the strongest single network on slides and tiles."""

    name = pooling = "mix"
