"""How the net is taught: the witnesses first, then contrast, prototypes and pseudo labels."""

import numpy as np
import torch
from torch import Tensor

from mil.bag_term import Balance, annotation_loss, bag_loss
from mil.classes import Classes
from mil.learner import Report
from mil.packed import PackedBags

from .config import InstanceConfig
from .losses import classification_losses, contrastive_losses
from .network import EMBEDDING, InstanceNet, MomentumCopy
from .prototypes import Prototypes
from .pseudo_labels import PseudoLabels, ShareKeeper, candidates_of
from .queue import KeyQueue
from .sampler import InstanceSampler
from .views import near_neighbours, view
from .witness import Witnesses

_NEIGHBOURS = 4


class Teaching:
    """What exists only while the net is taught: packed bags, pseudo labels, queue, momentum copy."""

    def __init__(
        self,
        net: InstanceNet,
        packed: PackedBags,
        features: Tensor,
        config: InstanceConfig,
        classes: Classes,
        balance: Balance,
        generator: torch.Generator,
    ) -> None:
        self.net, self.packed, self.features = net, packed, features
        self.config, self.classes, self.balance = config, classes, balance
        self.generator = generator
        self.candidates = candidates_of(packed.labels, classes)[packed.bag_of]  # (N, T)
        self.annotated = torch.zeros(0, dtype=torch.int64)  # rows
        if packed.candidates is not None:
            self.candidates &= packed.candidates
            self.annotated = torch.nonzero(~packed.candidates.all(1))[:, 0]
        self.pseudo_labels = PseudoLabels(self.candidates)
        self.keeper = ShareKeeper(config.least_positive, config.most_positive)
        self.sampler = InstanceSampler(packed, generator)
        self.copy = MomentumCopy(net, config.key_momentum)
        self.queue = KeyQueue(config.queue, EMBEDDING, generator)
        n_classes = self.candidates.shape[1]
        self.prototypes = Prototypes(
            torch.randn(n_classes, EMBEDDING, generator=generator), config.prototype_momentum
        )

    def hear(self, witnesses: Witnesses, report: Report) -> None:
        """Let the witnesses learn from the bags, and begin the pseudo labels where they agree."""
        witnesses.start_low(self.packed)
        optimizer = self._optimizer(witnesses, self.config.witness_rate)
        for epoch in range(self.config.witness_epochs):
            losses = []
            for _ in range(self.config.steps_per_epoch):
                rows, counts, labels = self._some_bags(self.config.bags_per_step)
                loss = witnesses.loss(
                    witnesses(self.features[rows]), counts, labels, self.classes, self.balance
                )
                if len(self.annotated):
                    loss = loss + self._annotation_term(witnesses)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            report({"epoch": epoch, "bag_loss": float(np.mean(losses))})
        witnesses.settle(self.features, self.candidates)
        with torch.no_grad():
            evidence = witnesses.evidence(witnesses(self.features))
        self.pseudo_labels.begin(evidence, self.packed.counts, self.keeper, self.config.false_share)

    def teach(self, report: Report) -> None:
        """Let the net learn the instances from their pseudo labels."""
        sets = self.candidates.long() @ 2 ** torch.arange(self.candidates.shape[1])
        neighbours = near_neighbours(self.features, sets, _NEIGHBOURS, self.generator)
        optimizer = self._optimizer(self.net, self.config.learning_rate)
        for epoch in range(self.config.epochs):
            figures: list[dict[str, float]] = []
            for _ in range(self.config.steps_per_epoch):
                losses = self._instance_terms(neighbours) | {"bag": self._bag_term()}
                weights = {"contrast": self.config.contrast_weight, "bag": self.config.bag_weight}
                optimizer.zero_grad()
                torch.stack([weights.get(k, 1.0) * v for k, v in losses.items()]).sum().backward()
                optimizer.step()
                self.copy.follow(self.net)
                figures.append({f"{k}_loss": v.item() for k, v in losses.items()})
            mean = {k: float(np.mean([f[k] for f in figures])) for k in figures[0]}
            report({"epoch": self.config.witness_epochs + epoch} | mean | self.guards())

    def _instance_terms(self, neighbours: Tensor) -> dict[str, Tensor]:
        """Section 3 of arXiv 2307.02249: contrast, prototypes and pseudo labels, in its order."""
        rows = self.sampler.draw(self.config.instances_per_step, self.pseudo_labels.soft)
        embedded = self.net.embed(self._view(rows, neighbours))
        margins, queries = self.net.classifier(embedded), self.net.project(embedded)
        keys = self.copy.keys(self._view(rows, neighbours))
        soft = self.pseudo_labels.soft[rows]
        classes = soft.argmax(1)
        with torch.no_grad():
            scores = self.prototypes.scores(queries)
        contrast = contrastive_losses(
            queries, keys, self.queue.keys, classes, self.queue.classes, self.config.temperature
        )
        self.prototypes.update(queries, classes)
        self.queue.push(keys, classes)
        if self.config.refine:
            chosen = self.keeper.choose(scores[:, 1:] - scores[:, :1], self.candidates[rows])
            self.pseudo_labels.update(rows, chosen, 1 - self.config.refine)
        return {"pseudo": classification_losses(margins, soft).mean(), "contrast": contrast.mean()}

    def _bag_term(self) -> Tensor:
        # a quarter as many as the witnesses see: a line is soon learned
        rows, counts, labels = self._some_bags(max(2, self.config.bags_per_step // 4))
        pooled = self.net.read_bags(self.net(self.features[rows]), counts)
        return bag_loss(pooled, labels, self.classes, self.balance)

    def _annotation_term(self, witnesses: Witnesses) -> Tensor:
        drawn = torch.randint(len(self.annotated), (self.config.tiles_per_bag,), generator=self.generator)
        rows = self.annotated[drawn]
        margins = witnesses(self.features[rows])
        return torch.stack([annotation_loss(each, self.candidates[rows]) for each in margins]).sum()

    def _some_bags(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randperm(len(self.packed.counts), generator=self.generator)[:n]
        rows, counts = self.packed.rows_of(chosen, self.config.tiles_per_bag, self.generator)
        return rows, counts, self.packed.labels[chosen]

    def _view(self, rows: Tensor, neighbours: Tensor) -> Tensor:
        picked = torch.randint(_NEIGHBOURS, (len(rows),), generator=self.generator)
        other = self.features[neighbours[rows, picked]]
        config = self.config
        return view(self.features[rows], other, config.view_strength, config.view_dropout, self.generator)

    def _optimizer(self, net: torch.nn.Module, rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=self.config.weight_decay)

    def guards(self) -> dict[str, float]:
        """Figures in which a collapse shows: the share of positives, certainty, angle of prototypes."""
        soft = self.pseudo_labels.soft[self.candidates[:, 1:].any(1)]
        return {
            "share_positive": float((soft[:, 1:] > 0.5).any(1).float().mean()),
            "mean_confidence": float(soft.max(1).values.mean()),
            "prototype_angle_deg": self.prototypes.angle_deg(),
        }

    def warnings(self) -> list[str]:
        """What a user must change, if anything."""
        found = self.guards()
        warnings = []
        if not 0.001 < found["share_positive"] < 0.95:
            warnings.append(
                f"pseudo labels collapsed: {found['share_positive']:.1%} of the tiles of positive slides are "
                "called positive; raise least_positive (none) or lower most_positive (all)"
            )
        if found["prototype_angle_deg"] < 5:
            warnings.append(
                f"prototypes collapsed: only {found['prototype_angle_deg']:.1f} degrees apart; "
                "lower prototype_momentum or raise contrast_weight"
            )
        return warnings
