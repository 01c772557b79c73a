"""What the attention learners share: bags side by side, and what attention says of a tile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mil.bag_term import tile_probability
from mil.net_learner import LEARNING_RATES, NetConfig
from tiling import ConfigError


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(NetConfig):
    """How a network with attention is trained."""

    attention: int = field(default=32, metadata={"help": "width of the attention"})
    learning_rate: float = field(
        default=1e-3, metadata={"help": "step size of AdamW", "sweep": LEARNING_RATES}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention < 1:
            raise ConfigError(f"attention is {self.attention}", hint="give 1 or more")


def padded(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return runs of `counts` (B,) in `values` (N, H) side by side: (B, n, H), and which are real (B, n).

    What fills up is copies of the bag's last instance, so that the largest of a bag stays its own.
    """
    place = torch.arange(int(counts.max()))
    starts = counts.cumsum(0) - counts
    return values[starts[:, None] + torch.minimum(place, counts[:, None] - 1)], place < counts[:, None]


def attended_probability(weights: Tensor, pooled: Tensor) -> Tensor:
    """Return tile probabilities (N, T) from attention (N, 1) or (N, K), 0 or more, and margins (1, K).

    Attention says where a network looks, not what is there, and sums to one however many tiles there
    are. Relative to a uniform one, r = N a, it is told as the share r / (1 + r) of the probability that
    the slide's margins give the class where all are equally frequent: rising in a, a half for an average
    tile.
    """
    relative = weights / weights.mean(0).clamp(min=1e-30)
    positive = tile_probability(pooled)[:, 1:] * (relative / (1 + relative))
    return torch.cat([1 - positive.sum(1, keepdim=True), positive], dim=1)


@contextmanager
def drawn_from(generator: torch.Generator) -> Iterator[None]:
    """Let the library, which draws its weights from the global generator, draw them from `generator`."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield
