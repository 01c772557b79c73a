"""`transmil`: a transformer over the tiles of a bag, with a class token (arXiv 2106.00908)."""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmil.models import TransMIL
from torchmil.nn import NystromAttention
from torchmil.nn.attention.nystrom_attention import moore_penrose_iter_pinv

from mil.learner import LEARNERS
from mil.net_learner import LEARNING_RATES, BagNet, NetConfig, NetLearner, Step
from tiling import ConfigError

from .attention import attended_probability, drawn_from


@dataclass(frozen=True, kw_only=True)
class TransmilConfig(NetConfig):
    """How TransMIL is trained."""

    heads: int = field(default=4, metadata={"help": "attention heads, of which `hidden` is a multiple"})
    landmarks: int = field(default=32, metadata={"help": "landmarks that stand for all tiles in attention"})
    epochs: int = field(default=20, metadata={"help": "passes over the training bags"})
    bags_per_step: int = field(default=4, metadata={"help": "bags seen in one step"})
    learning_rate: float = field(
        default=1e-3, metadata={"help": "step size of AdamW", "sweep": LEARNING_RATES}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.heads, self.landmarks) < 1 or self.hidden % self.heads:
            raise ConfigError(
                f"hidden is {self.hidden}, heads {self.heads}, landmarks {self.landmarks}",
                hint="give 1 or more of each, and hidden as a multiple of heads",
            )


class TransmilNet(BagNet):
    """The transformer, which takes one bag at a time: what fills a bag up would change its answer."""

    def __init__(self, dim: int, n_margins: int, config: TransmilConfig, generator: torch.Generator) -> None:
        super().__init__(dim, config.hidden, generator)
        with drawn_from(generator):
            self.transformer = TransMIL(
                in_shape=(config.hidden,),
                att_dim=config.hidden,
                n_heads=config.heads,
                n_landmarks=config.landmarks,
            )
            self.transformer.classifier = nn.Linear(config.hidden, n_margins)
        for layer in self.transformer.layers:
            del layer.norm2  # of the perceptron that these layers have not

    def loss(self, embedded: Tensor, step: Step) -> Tensor:
        """Return the bag term of the bags' margins."""
        return step.bag_loss(torch.cat([self._margins(bag) for bag in embedded.split(step.counts.tolist())]))

    def _margins(self, bag: Tensor) -> Tensor:
        return self.transformer(bag[None]).reshape(1, -1)

    def read(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins (1, K), and the class token's attention told as tile probabilities (N, T)."""
        attention, seen = cast(NystromAttention, self.transformer.layers[-1].att_module), []
        handle = attention.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            pooled = self._margins(embedded)
        finally:
            handle.remove()
        weights = class_attention(attention, seen[0])[1 : len(embedded) + 1]
        return pooled, attended_probability(weights.clamp(min=0)[:, None], pooled)


def class_attention(attention: NystromAttention, tokens: Tensor) -> Tensor:
    """Return what the first of `tokens` (1, n, H) attends to, (n,), the mean over heads.

    It is the first row of the attention matrix, in memory that grows with n times the landmarks; the
    library itself makes all n rows. As a product with a pseudo-inverse it may be below zero.
    """
    n_landmarks = attention.n_landmarks
    padding = -tokens.shape[1] % n_landmarks
    filled = functional.pad(tokens, (0, 0, padding, 0))[0]
    queries, keys, _ = (
        each.unflatten(1, (attention.n_heads, -1)).transpose(0, 1)  # (heads, n, H / heads)
        for each in cast(nn.Linear, attention.qkv_nn)(filled).chunk(3, dim=1)
    )
    queries = queries * attention.scale_factor
    of_queries, of_keys = (each.unflatten(1, (n_landmarks, -1)).mean(2) for each in (queries, keys))
    first = (queries[:, padding : padding + 1] @ of_keys.mT).softmax(-1)
    between = (of_queries @ of_keys.mT).softmax(-1)
    last = (of_queries @ keys.mT).softmax(-1)  # (heads, landmarks, n)
    row = first @ moore_penrose_iter_pinv(between, attention.pinv_iterations) @ last
    return row.mean(0)[0, padding:]


@LEARNERS.register("transmil")
class TransmilLearner(NetLearner):
    """TransMIL (arXiv 2106.00908), read by the attention of its class token in the last layer.

    A tile's probability is `attended_probability`; attention below zero, which the approximation makes
    now and then, is none. The tiles are put on a square in their order, as published: another order is
    another answer.
    """

    name = "transmil"
    heeds_order = True
    config: TransmilConfig
    config_class = TransmilConfig

    def _new_net(self, generator: torch.Generator) -> TransmilNet:
        return TransmilNet(self.dim, self.classes.n_positive, self.config, generator)
