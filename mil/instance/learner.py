"""The learner `slidebag`: instance-level contrast, prototypes and pseudo labels from slide labels alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from mil.bag_term import Balance, bag_loss, slide_log_probability, tile_probability
from mil.learner import LEARNERS, Bag, Classes, Learner, Prediction, Report
from mil.packed import PackedBags, Standardiser, chunks
from mil.pooling import module_state, restore_module
from tiling import ConfigError

from .losses import classification_losses
from .member import Member
from .network import InstanceNet, MomentumCopy
from .prototypes import Prototypes
from .pseudo_labels import PseudoLabels, ShareKeeper, candidates_of
from .queue import KeyQueue
from .sampler import InstanceSampler
from .views import near_neighbours, view

_POOLINGS = ("mean", "mix", "noisy_or")  # one member each: they err on different bags
_EMBEDDING = 128  # width of queries, keys and prototypes, as published
_PHI = (0.95, 0.80)  # how slowly pseudo labels move, first and last epoch, as published
_NEIGHBOURS = 4


@dataclass(frozen=True, kw_only=True)
class InstanceConfig:
    """How the instance learner is trained; the defaults were fixed beforehand and need no search."""

    hidden: int = field(default=64, metadata={"help": "width of each member's hidden layer"})
    epochs: int = field(default=30, metadata={"help": "epochs; the last one counts, none is selected"})
    warm_up_epochs: int = field(default=12, metadata={"help": "epochs before pseudo labels are used"})
    steps_per_epoch: int = field(default=20, metadata={"help": "steps in an epoch"})
    bags_per_step: int = field(default=16, metadata={"help": "bags of the bag term in a step"})
    tiles_per_bag: int = field(default=2048, metadata={"help": "at most so many tiles of a bag in a step"})
    instances_per_step: int = field(default=128, metadata={"help": "instances of the contrast in a step"})
    queue: int = field(default=1024, metadata={"help": "keys that the contrast compares with"})
    learning_rate: float = field(default=3e-3, metadata={"help": "step size of AdamW"})
    weight_decay: float = field(default=1e-2, metadata={"help": "pull of the weights to zero"})
    contrast_weight: float = field(default=0.1, metadata={"help": "weight of the contrastive loss"})
    pseudo_label_weight: float = field(default=0.5, metadata={"help": "weight of the pseudo-label loss"})
    temperature: float = field(default=0.07, metadata={"help": "temperature of the contrast"})
    key_momentum: float = field(default=0.99, metadata={"help": "inertia of the net that makes the keys"})
    prototype_momentum: float = field(default=0.99, metadata={"help": "inertia of the prototypes"})
    view_strength: float = field(default=0.5, metadata={"help": "how far a view goes to a near neighbour"})
    least_positive: float = field(
        default=0.03, metadata={"help": "least share of positive tiles in positive bags"}
    )
    most_positive: float = field(default=0.5, metadata={"help": "largest such share"})

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "steps_per_epoch", "bags_per_step", "tiles_per_bag", "queue"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give 1 or more")
        if self.instances_per_step < 2:
            raise ConfigError(f"instances_per_step is {self.instances_per_step}", hint="give 2 or more")
        if not 0 < self.least_positive <= self.most_positive < 1:
            raise ConfigError(
                f"positive shares {self.least_positive:g} to {self.most_positive:g}",
                hint="give 0 < least <= most < 1",
            )
        if min(self.learning_rate, self.temperature) <= 0:
            raise ConfigError("learning_rate or temperature is 0 or less", hint="give more than 0")
        for name in ("warm_up_epochs", "weight_decay", "contrast_weight", "pseudo_label_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name):g}", hint="give 0 or more")
        for name in ("key_momentum", "prototype_momentum", "view_strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name):g}", hint="give 0 to 1")


class Committee(nn.Module):
    """The nets of the members, and one prototype (T, 128) a class and member."""

    prototypes: Tensor

    def __init__(self, dim: int, hidden: int, n_margins: int, generator: torch.Generator) -> None:
        super().__init__()
        self.nets = nn.ModuleList(InstanceNet(dim, hidden, n_margins, p, generator) for p in _POOLINGS)
        self.register_buffer("prototypes", torch.zeros(len(_POOLINGS), n_margins + 1, _EMBEDDING))

    @property
    def members(self) -> list[InstanceNet]:
        """Return the nets by their type."""
        return [net for net in self.nets if isinstance(net, InstanceNet)]

    def forward(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return each member's margins (N, K) and the mean prototype scores (N, T) of features (N, D)."""
        margins, scores = [], []
        for net, vectors in zip(self.members, self.prototypes, strict=True):
            embedded = net.embed(features)
            margins.append(net.classifier(embedded))
            scores.append(Prototypes(vectors, 0.0).scores(net.project(embedded)))
        return margins, torch.stack(scores).mean(0)


@LEARNERS.register("slidebag")
class SlidebagLearner(Learner):
    """INS (arXiv 2307.02249) with a bag term, bounds on the share of positives, and a committee.

    Three small nets read a bag in three ways (mean, mean and maximum, noisy-or) and share the pseudo
    labels that their prototypes agree on. A tile's probability comes from the mean of their margins,
    a slide's from the mean of what each makes of its own.
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
        for net in self._committee.members:
            if net.pooling == "noisy_or":  # or else every bag of many tiles begins as surely positive
                net.classifier.bias.data -= packed.counts.float().mean().log()
        features = self._standardise(packed.features)
        teaching = _Teaching(
            self._committee, packed, features, self.config, self.classes, self._balance, generator
        )
        optimizer = torch.optim.AdamW(
            self._committee.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        for epoch in range(self.config.epochs):
            figures: list[dict[str, float]] = []
            for _ in range(self.config.steps_per_epoch):
                losses = {"bag": teaching.bag_term()} | teaching.instance_terms(epoch)
                weights = {"contrast": self.config.contrast_weight, "pseudo": self.config.pseudo_label_weight}
                optimizer.zero_grad()
                torch.stack([weights.get(k, 1.0) * v for k, v in losses.items()]).sum().backward()
                optimizer.step()
                teaching.follow()
                figures.append({f"{k}_loss": v.item() for k, v in losses.items()})
            mean = {k: float(np.mean([f[k] for f in figures])) for k in figures[0]}
            report({"epoch": epoch, "epochs": self.config.epochs} | mean | teaching.guards())
        self._committee.prototypes = torch.stack([m.prototypes.vectors for m in teaching.members])
        self.warnings += teaching.warnings()

    @torch.inference_mode()
    def _predict(self, bag: Bag) -> Prediction:
        parts = [self._committee(self._standardise(torch.from_numpy(part))) for part in chunks(bag.features)]
        margins = [torch.cat(of_member) for of_member in zip(*(p[0] for p in parts), strict=True)]
        count = torch.tensor([len(bag)])
        read = [net.read_bags(m, count) for net, m in zip(self._committee.members, margins, strict=True)]
        pooled = torch.stack(read).mean(0)
        return Prediction(
            bag.id,
            slide_log_probability(pooled, self.classes, self._balance).exp()[0].numpy(),
            tile_probability(torch.stack(margins).mean(0)).numpy(),
            torch.cat([p[1] for p in parts]).argmax(1).to(torch.int16).numpy(),
        )

    def _new_committee(self, generator: torch.Generator) -> Committee:
        return Committee(self.dim, self.config.hidden, self.classes.n_positive, generator)

    def _state(self) -> dict[str, np.ndarray]:
        return module_state(self._committee, self._standardise, self._balance)

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._committee = self._new_committee(torch.Generator())
        self._standardise, self._balance = restore_module(self._committee, state)


class _Teaching:
    """What exists only while the committee is taught: packed bags, members, pseudo labels."""

    def __init__(
        self,
        committee: Committee,
        packed: PackedBags,
        features: Tensor,
        config: InstanceConfig,
        classes: Classes,
        balance: Balance,
        generator: torch.Generator,
    ) -> None:
        self.packed, self.features = packed, features
        self.config, self.classes, self.balance = config, classes, balance
        self.generator = generator
        self.bag_candidates = candidates_of(packed.labels, self.classes)
        self.pseudo_labels = PseudoLabels(self.bag_candidates[packed.bag_of])
        self.keeper = self._new_keeper()
        self.sampler = InstanceSampler(packed, generator)
        self.neighbours = near_neighbours(self.features, packed.labels[packed.bag_of], _NEIGHBOURS, generator)
        n_classes = self.bag_candidates.shape[1]
        self.members = [
            Member(
                net,
                MomentumCopy(net, self.config.key_momentum),
                KeyQueue(self.config.queue, _EMBEDDING, generator),
                Prototypes(
                    torch.randn(n_classes, _EMBEDDING, generator=generator), self.config.prototype_momentum
                ),
                self._new_keeper(),
            )
            for net in committee.members
        ]

    def _new_keeper(self) -> ShareKeeper:
        return ShareKeeper(self.config.least_positive, self.config.most_positive)

    def bag_term(self) -> Tensor:
        """The log loss of some bags' labels, summed over members; it is what keeps the whole honest."""
        chosen = torch.randperm(len(self.packed.counts), generator=self.generator)[
            : self.config.bags_per_step
        ]
        rows, counts = self.packed.rows_of(chosen, self.config.tiles_per_bag, self.generator)
        features, labels = self.features[rows], self.packed.labels[chosen]
        pooled = [m.net.read_bags(m.net(features), counts) for m in self.members]
        return torch.stack([bag_loss(p, labels, self.classes, self.balance) for p in pooled]).sum()

    def instance_terms(self, epoch: int) -> dict[str, Tensor]:
        """The contrast and, after the warm-up, the pseudo-label loss, on instances from across all bags."""
        warm_up = self.config.warm_up_epochs
        rows, bags = self.sampler.draw(self.config.instances_per_step)
        candidates = self.bag_candidates[bags]
        told = [
            m.contrast(
                self._view(rows), self._view(rows), candidates,
                temperature=self.config.temperature, is_warm_up=epoch < warm_up,
            )
            for m in self.members
        ]  # fmt: skip
        pseudo = torch.zeros(())
        if epoch >= warm_up:
            soft = self.pseudo_labels.soft[rows]
            pseudo = torch.stack([classification_losses(c.margins, soft).mean() for c in told]).sum()
            agreed = torch.stack([c.evidence for c in told]).mean(0)
            part = (epoch - warm_up) / max(1, self.config.epochs - warm_up)
            phi = _PHI[0] + (_PHI[1] - _PHI[0]) * part
            self.pseudo_labels.update(rows, self.keeper.choose(agreed, candidates), phi)
        return {"contrast": torch.stack([c.loss for c in told]).sum(), "pseudo": pseudo}

    def _view(self, rows: Tensor) -> Tensor:
        picked = torch.randint(_NEIGHBOURS, (len(rows),), generator=self.generator)
        other = self.features[self.neighbours[rows, picked]]
        return view(self.features[rows], other, self.config.view_strength, self.generator)

    def follow(self) -> None:
        """Let every member's copy follow its net."""
        for member in self.members:
            member.copy.follow(member.net)

    def guards(self) -> dict[str, float]:
        """Figures in which a collapse shows: the share of positives, certainty, angle of prototypes."""
        in_positive = self.bag_candidates[self.packed.bag_of][:, 1:].any(1)
        soft = self.pseudo_labels.soft[in_positive]
        return {
            "share_positive": float((soft[:, 1:] > 0.5).any(1).float().mean()),
            "mean_confidence": float(soft.max(1).values.mean()),
            "prototype_angle_deg": min(m.prototypes.angle_deg() for m in self.members),
        }

    def warnings(self) -> list[str]:
        """What a user must change, if anything."""
        found = self.guards()
        warnings = []
        if self.config.epochs > self.config.warm_up_epochs and not 0.001 < found["share_positive"] < 0.95:
            warnings.append(
                f"pseudo labels collapsed: {found['share_positive']:.1%} of the tiles of positive slides are "
                "called positive; raise least_positive (none) or lower most_positive (all), or train "
                "for more epochs"
            )
        if found["prototype_angle_deg"] < 5:
            warnings.append(
                f"prototypes collapsed: only {found['prototype_angle_deg']:.1f} degrees apart; "
                "lower prototype_momentum or raise contrast_weight"
            )
        return warnings
