"""How the net is taught: contrast, prototypes and pseudo labels, which begin where the witnesses agree."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mil.bag_term import bag_loss
from mil.course import Stage

from .config import InstanceConfig
from .losses import classification_losses, contrastive_losses, warm_up_losses
from .material import Material
from .network import EMBEDDING, InstanceNet, MomentumCopy
from .prototypes import Prototypes
from .pseudo_labels import PseudoLabels, ShareKeeper
from .queue import KeyQueue
from .sampler import InstanceSampler
from .views import NearNeighbours, view


class Teaching:
    """What exists only while the net is taught: pseudo labels, queue, momentum copy, prototypes."""

    def __init__(
        self, net: InstanceNet, material: Material, neighbours: NearNeighbours, config: InstanceConfig
    ) -> None:
        self.net, self.material, self.neighbours, self.config = net, material, neighbours, config
        self.generator, packed = material.generator, material.packed
        self.pseudo_labels = PseudoLabels(material.candidates, config.anchor)
        self.keeper = ShareKeeper(config.least_positive, config.most_positive)
        self.sampler = InstanceSampler(packed, self.generator)
        self.copy = MomentumCopy(net, config.key_momentum)
        self.queue = KeyQueue(config.queue, EMBEDDING, self.generator)
        n_prototypes = material.candidates.shape[1] * config.prototypes
        begin = torch.randn(n_prototypes, EMBEDDING, generator=self.generator)
        self.prototypes = Prototypes(begin, config.prototype_momentum, config.prototypes)

    @property
    def carried(self) -> dict[str, Any]:
        """Return what a step leaves to the next besides the net."""
        return {
            "pseudo_labels": self.pseudo_labels,
            "keeper": self.keeper,
            "queue": self.queue,
            "prototypes": self.prototypes,
            "copy": self.copy.net,
        }

    def begin(self, evidence: Tensor | None) -> None:
        """Begin the pseudo labels where the witnesses agree, by their evidence (N, K), if there is any."""
        if evidence is not None:
            counts = self.material.packed.counts
            self.pseudo_labels.begin(evidence, counts, self.keeper, self.config.false_share)

    def teach(self, stage: Stage) -> None:
        """Let the net learn the instances from their pseudo labels."""
        config, optimizer = self.config, self._optimizer()
        n_steps = config.steps(len(self.material.packed.counts), self.material.packed.n_views)
        for epoch in stage.epochs(config.epochs, optimizer=optimizer):
            figures: list[dict[str, float]] = []
            for _ in range(n_steps):
                losses = self._instance_terms(epoch)
                weights = {"contrast": config.contrast_weight}
                if config.bag_weight:
                    losses["bag"], weights["bag"] = self._bag_term(), config.bag_weight
                optimizer.zero_grad()
                torch.stack([weights.get(k, 1.0) * v for k, v in losses.items()]).sum().backward()
                optimizer.step()
                self.copy.follow(self.net)
                figures.append({f"{k}_loss": v.item() for k, v in losses.items()})
            mean = {k: float(np.mean([f[k] for f in figures])) for k in figures[0]}
            seen = n_steps * config.instances_per_step
            stage.report({"epoch": epoch, "instances": seen} | mean | self.guards())

    def _instance_terms(self, epoch: int) -> dict[str, Tensor]:
        """Section 3 of arXiv 2307.02249: contrast, prototypes and pseudo labels, in its order.

        But the classifier learns from the labels as the step found them, not as it leaves them: with large
        steps to the prototypes (`refine`) these would be ahead of what the witnesses began.
        """
        config = self.config
        rows = self.sampler.draw(config.instances_per_step, self.pseudo_labels.soft)
        near, plain = self.neighbours.of(rows, self.material), self.material.plain(rows)
        embedded = self.net.embed(self._view(rows, near, plain))
        margins, queries = self.net.classifier(embedded), self.net.project(embedded)
        keys = self.copy.keys(self._view(rows, near, plain))
        soft = self.pseudo_labels.soft[rows]
        with torch.no_grad():
            classes = self._classes(margins, rows, soft)
            scores = self.prototypes.scores(queries)
        if epoch < config.warm_up_epochs:
            contrast = warm_up_losses(queries, keys, self.queue.keys, config.temperature)
        else:
            contrast = contrastive_losses(
                queries, keys, self.queue.keys, classes, self.queue.classes, config.temperature
            )
        self.prototypes.update(queries, classes)
        self.queue.push(keys, classes)
        if config.refine and epoch >= config.warm_up_epochs:
            chosen = self.keeper.choose(scores[:, 1:] - scores[:, :1], self.material.candidates[rows])
            self.pseudo_labels.update(rows, chosen, 1 - self._refining(epoch))
        return {"pseudo": classification_losses(margins, soft).mean(), "contrast": contrast.mean()}

    def _classes(self, margins: Tensor, rows: Tensor, soft: Tensor) -> Tensor:
        """Which class each instance counts as in contrast and prototypes."""
        if not self.config.classifier_names:
            return soft.argmax(1)
        probability = functional.softmax(functional.pad(margins, (1, 0)), dim=1)
        return (probability * self.material.candidates[rows]).argmax(1)

    def _refining(self, epoch: int) -> float:
        """The share of a pseudo label that moves: from `refine` to `refine_last`, evenly."""
        first, last = self.config.refine, max(self.config.refine_last, self.config.refine)
        return first + (last - first) * epoch / max(self.config.epochs - 1, 1)

    def _bag_term(self) -> Tensor:
        # a quarter as many as the witnesses see: a line is soon learned
        n, everyone = max(2, self.config.bags_per_step // 4), torch.arange(len(self.material.packed.counts))
        rows, counts, bags = self.material.some_bags(n, self.config.tiles_per_bag, everyone)
        pooled = self.net.read_bags(self.net(self.material.drawn(rows)), counts)
        labels = self.material.packed.labels[bags]
        return bag_loss(pooled, labels, self.material.classes, self.material.balance)

    def _view(self, rows: Tensor, near: Tensor, plain: Tensor | None) -> Tensor:
        """Return one view (B, D) of rows (B,), whose near neighbours are the rows `near` (B, k).

        Where no views of tiles are kept, all are made of the same `plain` features (B, D).
        """
        picked = torch.randint(near.shape[1], (len(near), 1), generator=self.generator)
        features = self.material.drawn(rows) if plain is None else plain
        other = self.material.rows(near.gather(1, picked)[:, 0])
        config = self.config
        return view(features, other, config.view_strength, config.view_dropout, self.generator)

    def _optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        if config.optimizer == "sgd":
            return torch.optim.SGD(
                self.net.parameters(), config.learning_rate, momentum=0.9, weight_decay=config.weight_decay
            )
        return torch.optim.AdamW(
            self.net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    @property
    def _have_choice(self) -> Tensor:
        """Which instances may be of more than one class, (N,): of others there is nothing to collapse."""
        return self.material.candidates.sum(1) > 1

    def guards(self) -> dict[str, float]:
        """Figures in which a collapse shows: the share of positives, certainty, angle of prototypes."""
        soft = self.pseudo_labels.soft[self._have_choice]
        return {
            "share_positive": float((soft[:, 1:] > 0.5).any(1).float().mean()),
            "mean_confidence": float(soft.max(1).values.mean()),
            "prototype_angle_deg": self.prototypes.angle_deg(),
        }

    def warnings(self) -> list[str]:
        """What a user must change, if anything."""
        found = self.guards()
        warnings = []
        packed = self.material.packed  # the one tile of a bag is what its bag is
        has_choice = bool((self._have_choice & (packed.counts > 1)[packed.bag_of]).any())
        # not "outside of": no comparison holds for what is no number
        if has_choice and not 0.001 < found["share_positive"] < 0.95:
            warnings.append(
                f"pseudo labels collapsed: {found['share_positive']:.1%} of the tiles of positive slides are "
                "called positive; raise least_positive (none) or lower most_positive (all)"
            )
        if not found["prototype_angle_deg"] >= 5:
            warnings.append(
                f"prototypes collapsed: only {found['prototype_angle_deg']:.1f} degrees apart; "
                "lower prototype_momentum or raise contrast_weight"
            )
        return warnings
