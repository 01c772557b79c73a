"""The learner `slidebag`: instance-level contrast, prototypes and pseudo labels from slide labels alone."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mil.bag import Bag
from mil.bag_term import Balance, slide_log_probability, tile_probability
from mil.classes import Labels
from mil.course import Course
from mil.learner import LEARNERS, Learner, Prediction
from mil.net_learner import module_state, restore_module
from mil.packed import InstanceHead, PackedBags, Standardiser

from .config import KINDS, InstanceConfig
from .context import summary
from .hearing import hear
from .material import Material
from .network import EMBEDDING, InstanceNet
from .prototypes import Prototypes, matching
from .reading import Reading
from .rehearsal import all_epochs, choose_kinds, rehearsal_epochs
from .teaching import Teaching
from .views import NearNeighbours
from .witness import WITNESSES, Witnesses

_NEIGHBOURS = 4  # of an instance, that views of it are drawn towards


class Member(nn.Module):
    """The witnesses, the net that they taught, and its prototypes (T J, 128), J a class.

    `centre` and `spread` (2, K) are those of the net's margins and of the witnesses' evidence on the
    training instances: the witnesses are brought to the scale of the net before both are averaged.
    """

    prototypes: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self, dim: int, config: InstanceConfig, kind: str, n_margins: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        new = (dim, n_margins, kind, config.witness_hidden, config.tiles_per_bag, generator)
        self.witnesses = Witnesses(*new) if config.witnesses != "none" else None
        self.net = InstanceNet(dim, config.hidden, n_margins, generator)
        self.witness_weight = config.witness_weight
        self.register_buffer("prototypes", torch.zeros((n_margins + 1) * config.prototypes, EMBEDDING))
        self.register_buffer("centre", torch.zeros(2, n_margins))
        self.register_buffer("spread", torch.ones(2, n_margins))

    def forward(self, features: Tensor) -> Tensor:
        """Return tile margins: (N, D) -> (N, K)."""
        return self.look_at(features)[0]

    def look_at(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return margins (N, K), the net's own, cosines to prototypes (N, T J), the witnesses' (W, N, K)."""
        embedded = self.net.embed(features)
        margins = self.net.classifier(embedded)
        similar = Prototypes(self.prototypes, 0.0).similar(self.net.project(embedded))
        if self.witnesses is None:
            return margins, margins, similar, margins[None, :0]
        witnessed = self.witnesses(features)
        evidence = (self.witnesses.evidence(witnessed) - self.centre[1]) / self.spread[1]
        heard = evidence * self.spread[0] + self.centre[0]
        return margins.lerp(heard, self.witness_weight), margins, similar, witnessed

    @torch.no_grad()
    def settle_witnesses(self, material: Material) -> Tensor:
        """Bring the witnesses to one scale; return their evidence for all training instances, (N, K)."""
        assert self.witnesses is not None
        evidence = self.witnesses.settle(material)
        self.centre[1], self.spread[1] = evidence.mean(0), evidence.std(0).clamp(min=1e-6)
        return evidence

    @torch.no_grad()
    def settle(self, material: Material) -> None:
        """Set `centre` and `spread` of the net's margins, if there are witnesses to be brought to them."""
        if self.witnesses is None:
            return
        margins = material.read_all(self.net)
        self.centre[0], self.spread[0] = margins.mean(0), margins.std(0).clamp(min=1e-6)


class Committee(nn.Module):
    """Members that differ by their random beginnings and kinds of witnesses, and how these read a bag."""

    def __init__(self, members: Sequence[Member], reading: Reading) -> None:
        super().__init__()
        self.reading = reading
        self._members = nn.ModuleList(members)

    @property
    def members(self) -> list[Member]:
        """Return the members by their type."""
        return [member for member in self._members if isinstance(member, Member)]

    def read(self, parts: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return margins of one bag (1, K), those of its tiles, and cosines, some instances (N, D) a part.

        Tile margins (N, K) and cosines to prototypes (N, T J) are the means over the members.
        """
        seen: list[list[tuple[Tensor, ...]]] = [[] for _ in self.members]
        summaries, n = [], 0
        for part in parts:
            summaries.append(summary(part) * len(part))
            n += len(part)
            for member, own in zip(self.members, seen, strict=True):
                own.append(member.look_at(part))
        told = torch.stack(summaries).sum(0)[None] / n
        joined = [[torch.cat(pieces, dim=-2) for pieces in zip(*own, strict=True)] for own in seen]
        tiles, of_nets, similar, witnessed = zip(*joined, strict=True)
        bag = self._read_bag(of_nets, witnessed, told)
        return bag, torch.stack(tiles).mean(0), torch.stack(similar).mean(0)

    def _read_bag(self, of_nets: Sequence[Tensor], witnessed: Sequence[Tensor], told: Tensor) -> Tensor:
        """Return the margins of one bag by the witnesses, if any: (N, K) and (W, N, K) a member -> (1, K)."""
        count = torch.tensor([len(of_nets[0])])
        by_kind: dict[str, list[Tensor]] = {}
        for member, margins in zip(self.members, witnessed, strict=True):
            if member.witnesses is not None:
                pooled = member.witnesses.read_each(margins, count, told)
                by_kind.setdefault(member.witnesses.kind, []).append(pooled)
        if by_kind:
            return self.reading({kind: torch.stack(own).mean(0) for kind, own in by_kind.items()})
        nets = zip(self.members, of_nets, strict=True)
        return torch.stack([member.net.read_bags(own, count) for member, own in nets]).mean(0)

    @torch.no_grad()
    def align_prototypes(self, material: Material, per_class: int) -> None:
        """Number prototypes in all members as in the first, by the instances that they are nearest to."""
        if per_class == 1 or len(self.members) == 1:
            return
        nearest = [material.read_all(lambda x, m=m: m.look_at(x)[2]).argmax(1) for m in self.members]
        for member, others in zip(self.members[1:], nearest[1:], strict=True):
            n_classes = len(member.prototypes) // per_class
            member.prototypes = member.prototypes[matching(nearest[0], others, n_classes, per_class)]


@LEARNERS.register("slidebag")
class SlidebagLearner(Learner):
    """INS (arXiv 2307.02249) whose pseudo labels begin where witnesses of the bag labels agree.

    The witnesses learn from the bag term alone. A small net learns the instances from what they agree
    on, by pseudo labels, contrast and prototypes. Several such members are fitted apart; a tile's margin
    is the mean of what their nets and witnesses make of it, a slide's that of the witnesses, weighed by a
    `Reading`; without witnesses that of the nets' strongest instances.
    """

    name = "slidebag"
    config: InstanceConfig
    config_class = InstanceConfig
    heeds_annotations = True

    def __init__(self, config: InstanceConfig | None = None) -> None:
        super().__init__(config)
        self.n_prototypes = self.config.prototypes

    def _fit(self, bags: Sequence[Bag], labels: Labels, seed: int, course: Course) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._standardise = Standardiser.of(bags)
        self._balance = Balance.of(labels, len(self.classes.names))
        packed = PackedBags.of(bags, labels)
        material = Material(packed, self._standardise, self.classes, self._balance, generator)
        neighbours = NearNeighbours(_NEIGHBOURS)
        course.once("neighbours", partial(neighbours.begin, material.sets, generator))
        course.carry(generator=generator, neighbours=neighbours)
        reading = Reading(len(WITNESSES), self.classes.n_positive)
        choose = partial(choose_kinds, reading, self.dim, material, self.config, course)
        self._kinds = course.once("kinds", choose)
        self._committee = self._new_committee(generator, reading)
        course.carry(committee=self._committee)
        for number in range(self.config.members):
            told = course.once(
                f"member {number}", partial(self._fit_member, number, material, neighbours, course)
            )
            self.warnings += [warning for warning in told if warning not in self.warnings]
        self._committee.align_prototypes(material, self.config.prototypes)

    def _fit_member(
        self, number: int, material: Material, neighbours: NearNeighbours, course: Course
    ) -> list[str]:
        """Fit one member and return its warnings."""
        config, member = self.config, self._committee.members[number]
        teaching = Teaching(member.net, material, neighbours, config)
        course.carry(**teaching.carried)
        told = {"epochs": all_epochs(material, config), "member": number}
        first = rehearsal_epochs(material, config) + number * config.member_epochs

        def begin() -> None:
            evidence = None
            if member.witnesses is not None:
                everyone = torch.arange(len(material.packed.counts))
                hear(member.witnesses, material, config, course.stage(first, **told), everyone)
                evidence = member.settle_witnesses(material)
            teaching.begin(evidence)

        course.once(f"member {number} began", begin)
        teaching.teach(course.stage(first + config.heard_epochs, **told))
        member.prototypes = teaching.prototypes.vectors
        member.settle(material)
        return teaching.warnings()

    @torch.inference_mode()
    def _predict(self, bag: Bag) -> Prediction:
        pooled, margins, similar = self._committee.read(self._standardise.parts(bag.features))
        nearest = similar.max(1)
        return Prediction(
            bag.id,
            slide_log_probability(pooled, self.classes, self._balance).exp()[0].numpy(),
            tile_probability(margins).numpy(),
            nearest.indices.to(torch.int16).numpy(),
            prototype_distance=(1 - nearest.values).numpy(),
        )

    def instance_head(self) -> InstanceHead:
        """Return standardiser and members."""
        return InstanceHead(self._standardise, self._committee.members)

    def _new_committee(self, generator: torch.Generator, reading: Reading) -> Committee:
        n_margins = self.classes.n_positive
        members = [Member(self.dim, self.config, kind, n_margins, generator) for kind in self._kinds]
        return Committee(members, reading)

    def _state(self) -> dict[str, np.ndarray]:
        kinds = np.array([KINDS.index(kind) for kind in self._kinds], np.int64)
        return module_state(self._committee, self._standardise, self._balance) | {"witnesses.kinds": kinds}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._kinds = [KINDS[number] for number in state["witnesses.kinds"]]
        reading = Reading(len(WITNESSES), self.classes.n_positive)
        self._committee = self._new_committee(torch.Generator(), reading)
        self._standardise, self._balance = restore_module(self._committee, state)
