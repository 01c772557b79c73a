"""The learner `slidebag`: instance-level contrast, prototypes and pseudo labels from slide labels alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from mil.bag_term import Balance, slide_log_probability, tile_probability
from mil.learner import LEARNERS, Bag, Learner, Prediction, Report
from mil.packed import PackedBags, Standardiser, chunks
from mil.pooling import module_state, restore_module
from tiling import ConfigError

from .network import EMBEDDING, InstanceNet
from .prototypes import Prototypes
from .teaching import Teaching
from .witness import Witnesses


@dataclass(frozen=True, kw_only=True)
class InstanceConfig:
    """How the instance learner is trained; the defaults need no search."""

    members: int = field(default=3, metadata={"help": "models that are fitted apart and then speak as one"})
    hidden: int = field(default=64, metadata={"help": "width of the net's hidden layer"})
    witness_epochs: int = field(default=10, metadata={"help": "epochs of the witnesses, who see bags alone"})
    epochs: int = field(default=15, metadata={"help": "epochs of the net; the last one counts"})
    steps_per_epoch: int = field(default=20, metadata={"help": "steps in an epoch"})
    bags_per_step: int = field(default=32, metadata={"help": "bags that the witnesses see in a step"})
    tiles_per_bag: int = field(default=256, metadata={"help": "at most so many tiles of a bag in a step"})
    instances_per_step: int = field(
        default=512, metadata={"help": "instances of the instance losses in a step"}
    )
    queue: int = field(default=1024, metadata={"help": "keys that the contrast compares with"})
    witness_rate: float = field(default=1e-2, metadata={"help": "step size of the witnesses"})
    learning_rate: float = field(default=3e-3, metadata={"help": "step size of the net"})
    weight_decay: float = field(default=1e-2, metadata={"help": "pull of the weights to zero"})
    bag_weight: float = field(default=0.1, metadata={"help": "weight of the net's own bag term"})
    contrast_weight: float = field(default=0.1, metadata={"help": "weight of the contrastive loss"})
    refine: float = field(default=0.0, metadata={"help": "share of a pseudo label that prototypes may move"})
    temperature: float = field(default=0.07, metadata={"help": "temperature of the contrast"})
    key_momentum: float = field(default=0.99, metadata={"help": "inertia of the net that makes the keys"})
    prototype_momentum: float = field(default=0.99, metadata={"help": "inertia of the prototypes"})
    view_strength: float = field(default=0.5, metadata={"help": "how far a view goes to a near neighbour"})
    view_dropout: float = field(
        default=0.2, metadata={"help": "share of the features that a view leaves out"}
    )
    false_share: float = field(
        default=0.02, metadata={"help": "share of known negatives that may look like a first positive"}
    )
    least_positive: float = field(
        default=0.01, metadata={"help": "least share of positive tiles in a positive bag"}
    )
    most_positive: float = field(default=0.5, metadata={"help": "largest such share"})

    def __post_init__(self) -> None:
        for name in (
            "members",
            "hidden",
            "witness_epochs",
            "epochs",
            "steps_per_epoch",
            "bags_per_step",
            "tiles_per_bag",
            "queue",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give 1 or more")
        if self.instances_per_step < 4:
            raise ConfigError(f"instances_per_step is {self.instances_per_step}", hint="give 4 or more")
        if not 0 < self.least_positive <= self.most_positive < 1:
            raise ConfigError(
                f"positive shares {self.least_positive:g} to {self.most_positive:g}",
                hint="give 0 < least <= most < 1",
            )
        if min(self.learning_rate, self.witness_rate, self.temperature) <= 0:
            raise ConfigError("a learning rate or the temperature is 0 or less", hint="give more than 0")
        for name in ("weight_decay", "bag_weight", "contrast_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name):g}", hint="give 0 or more")
        for name in (
            "key_momentum",
            "prototype_momentum",
            "view_strength",
            "view_dropout",
            "false_share",
            "refine",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name):g}", hint="give 0 to 1")


class Member(nn.Module):
    """The witnesses, the net that they taught, and its prototypes (T, 128), one a class."""

    prototypes: Tensor

    def __init__(self, dim: int, hidden: int, n_margins: int, generator: torch.Generator) -> None:
        super().__init__()
        self.witnesses = Witnesses(dim, n_margins, generator)
        self.net = InstanceNet(dim, hidden, n_margins, generator)
        self.register_buffer("prototypes", torch.zeros(n_margins + 1, EMBEDDING))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return margins (1, N, K), prototype scores (1, N, T), the witnesses' margins (W, N, K)."""
        embedded = self.net.embed(features)
        scores = Prototypes(self.prototypes, 0.0).scores(self.net.project(embedded))
        return self.net.classifier(embedded)[None], scores[None], self.witnesses(features)

    def read_bag(self, margins: Tensor, witnessed: Tensor) -> Tensor:
        """Return what net and witnesses together make of one bag: (N, K) and (W, N, K) -> (1, K)."""
        count = torch.tensor([len(margins)])
        return (self.net.read_bags(margins, count) + self.witnesses.read_bags(witnessed, count)) / 2


class Committee(nn.Module):
    """Members that differ by their random beginnings."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self._members = nn.ModuleList(members)

    @property
    def members(self) -> list[Member]:
        """Return the members by their type."""
        return [member for member in self._members if isinstance(member, Member)]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return, member after member, margins (M, N, K), scores (M, N, T), witnesses' (M W, N, K)."""
        margins, scores, witnessed = zip(*(member(features) for member in self.members), strict=True)
        return torch.cat(margins), torch.cat(scores), torch.cat(witnessed)

    def read_bag(self, margins: Tensor, witnessed: Tensor) -> Tensor:
        """Return the mean of what the members make of one bag: (M, N, K) and (M W, N, K) -> (1, K)."""
        parts = zip(self.members, margins, witnessed.chunk(len(margins)), strict=True)
        return torch.stack([member.read_bag(own, heard) for member, own, heard in parts]).mean(0)


@LEARNERS.register("slidebag")
class SlidebagLearner(Learner):
    """INS (arXiv 2307.02249) whose pseudo labels begin where linear witnesses of the bag labels agree.

    The witnesses learn from the bag term alone. A small net learns the instances from what they agree
    on, by pseudo labels, contrast and prototypes, and how its strongest instances tell the slide.
    Several such members are fitted apart; a tile's margin is the mean of theirs, a slide's the mean of
    what their nets and witnesses make of it.
    """

    name = "slidebag"
    config: InstanceConfig
    config_class = InstanceConfig

    def _fit(self, bags: Sequence[Bag], labels: Sequence[int], seed: int, report: Report) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._standardise = Standardiser.of(bags)
        self._balance = Balance.of(labels, len(self.classes.names))
        self._committee = self._new_committee(generator)
        packed = PackedBags.of(bags, labels)
        features = self._standardise(packed.features)
        for number, member in enumerate(self._committee.members):
            teaching = Teaching(
                member.net, packed, features, self.config, self.classes, self._balance, generator
            )
            teaching.hear(member.witnesses, _of_member(report, number, self.config))
            teaching.teach(_of_member(report, number, self.config))
            member.prototypes = teaching.prototypes.vectors
            self.warnings += [warning for warning in teaching.warnings() if warning not in self.warnings]

    @torch.inference_mode()
    def _predict(self, bag: Bag) -> Prediction:
        parts = [self._committee(self._standardise(torch.from_numpy(part))) for part in chunks(bag.features)]
        margins, scores, witnessed = (torch.cat(each, dim=1) for each in zip(*parts, strict=True))
        pooled = self._committee.read_bag(margins, witnessed)
        return Prediction(
            bag.id,
            slide_log_probability(pooled, self.classes, self._balance).exp()[0].numpy(),
            tile_probability(margins.mean(0)).numpy(),
            scores.mean(0).argmax(1).to(torch.int16).numpy(),
        )

    def _new_committee(self, generator: torch.Generator) -> Committee:
        new = (self.dim, self.config.hidden, self.classes.n_positive, generator)
        return Committee([Member(*new) for _ in range(self.config.members)])

    def _state(self) -> dict[str, np.ndarray]:
        return module_state(self._committee, self._standardise, self._balance)

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._committee = self._new_committee(torch.Generator())
        self._standardise, self._balance = restore_module(self._committee, state)


def _of_member(report: Report, number: int, config: InstanceConfig) -> Report:
    """Count the epochs on over the members."""
    of_each = config.witness_epochs + config.epochs

    def tell(figures: Mapping[str, float]) -> None:
        epoch = {"epoch": number * of_each + figures["epoch"], "epochs": config.members * of_each}
        report({**figures, **epoch, "member": number})

    return tell
