"""DINO (arXiv 2104.14294): a student tells what its own moving average sees in other crops of a tile."""

import warnings
from typing import Any

import torch
from lightly.loss import DINOLoss, KoLeoLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule, linear_warmup_schedule

from features.encoder import EncoderCard
from features.pooling import POOLINGS

from .batches import Batch
from .config import PretrainConfig
from .networks import Plan
from .objective import Losses, Objective

_HIDDEN, _BOTTLENECK = 2048, 256
_SHARP = 0.04  # temperature of the teacher at the beginning
_STEPS = 10_000  # of schedules that are told in shares of the whole


class Projected(torch.nn.Module):
    """A trunk and its head: images become vectors (n, dim) and outputs (n, prototypes)."""

    def __init__(self, trunk: Any, card: EncoderCard, config: PretrainConfig) -> None:
        super().__init__()
        self.trunk, self._pool, width = trunk, POOLINGS[card.pooling], card.dim
        with warnings.catch_warnings():  # of torch, about the older weight_norm that lightly uses
            warnings.simplefilter("ignore", FutureWarning)
            self.head = DINOProjectionHead(
                width, min(_HIDDEN, 8 * width), min(_BOTTLENECK, 2 * width), config.prototypes
            )

    def forward(self, crops: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return vectors and outputs of crops of several sizes."""
        vectors = [self._pool(self.trunk, self.trunk.forward_features(images)) for images in crops]
        return [(each, self.head(each)) for each in vectors]


class SelfDistillation(Objective):
    """Student and teacher, a moving average of it that is centred; KoLeo spreads the vectors.

    The teacher is what becomes the encoder.
    """

    def __init__(self, plan: Plan, config: PretrainConfig, *, is_reduced: bool) -> None:
        super().__init__(plan, is_reduced=is_reduced)
        self._config = config
        self.student = Projected(plan.trunk(config.drop_path), plan.card, config)
        self.teacher = Projected(plan.trunk(), plan.card, config)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(requires_grad=False)
        self.dino = DINOLoss(config.prototypes)
        self.koleo = KoLeoLoss()

    def losses(self, batch: Batch, done: float) -> Losses:
        """Return the losses `dino` and `koleo`."""
        n = len(batch.places)
        large = self.images(torch.cat(batch.views[:2]))
        with torch.no_grad(), self.computing():
            [(_, wanted)] = self.teacher([large])
        small = batch.views[2:]
        crops = [large, *([self.images(torch.cat(small))] if small else [])]
        outputs = self.learn(crops)
        told = [each for _, out in outputs for each in out.float().split(n)]
        warm_up = int(self._config.warm_up * _STEPS)
        temperature = self._config.temperature
        temperature = linear_warmup_schedule(
            int(done * _STEPS), warm_up, min(_SHARP, temperature), temperature
        )
        losses = {"dino": self.dino(list(wanted.float().split(n)), told, teacher_temp=temperature)}
        if self._config.koleo:
            spread = [self.koleo(each) for each in outputs[0][0].float().split(n)]
            losses["koleo"] = self._config.koleo * torch.stack(spread).mean()
        return losses

    def after_step(self, done: float) -> None:
        """Let the teacher follow."""
        momentum = cosine_schedule(int(done * _STEPS), _STEPS, self._config.momentum, 1.0)
        update_momentum(self.student, self.teacher, momentum)

    @property
    def trunk(self) -> torch.nn.Module:
        """The teacher's trunk."""
        return self.teacher.trunk
