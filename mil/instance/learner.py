"""The learner `slidebag`: instance-level contrast, prototypes and pseudo labels from slide labels alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mil.bag_term import Balance, slide_log_probability, tile_probability
from mil.learner import LEARNERS, Bag, Learner, Prediction, Report
from mil.net_learner import module_state, restore_module
from mil.packed import PackedBags, Standardiser, chunks

from .config import InstanceConfig
from .network import EMBEDDING, InstanceNet
from .prototypes import Prototypes
from .teaching import Teaching
from .witness import Witnesses


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
