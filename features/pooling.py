"""From a network's tokens to the patch's vector, and to tokens on a raster."""

import math
from collections.abc import Callable
from typing import Any

import torch

from tiling import ConfigError

# (trunk, what its forward_features gives) -> features (n, dim)
Pooling = Callable[[Any, torch.Tensor], torch.Tensor]


def class_token(trunk: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return the class token, which comes first."""
    del trunk
    return tokens[:, 0]


def class_and_mean(trunk: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return the class token and the mean of the patch tokens, side by side; registers are left out."""
    return torch.cat([tokens[:, 0], tokens[:, trunk.num_prefix_tokens :].mean(dim=1)], dim=1)


def by_head(trunk: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return what timm's head makes of the tokens: its own pooling, and a projection if it has one."""
    return trunk.forward_head(tokens)


def attentional(trunk: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return what an `AttentionalPooler` in the head's place makes of all tokens."""
    return trunk.head(tokens)


POOLINGS: dict[str, Pooling] = {
    "class token": class_token,
    "class token + mean": class_and_mean,
    "attentional": attentional,
    "CLIP projection": by_head,
    "mean": by_head,
    "as in timm": by_head,
}


class AttentionalPooler(torch.nn.Module):
    """One learned query attends to all tokens (CoCa, arXiv 2205.01917): (n, tokens, width) -> (n, dim)."""

    def __init__(self, width: int, dim: int, *, heads: int = 8) -> None:
        super().__init__()
        self.query = torch.nn.Parameter(torch.randn(1, dim))
        self.attn = torch.nn.MultiheadAttention(dim, heads, kdim=width, vdim=width, batch_first=True)
        self.ln_q, self.ln_k = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(width)
        self.ln = torch.nn.LayerNorm(dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return features (n, dim)."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(tokens.shape[0], 1, -1)  # len() would be frozen by a tracer
        return self.ln(self.attn(query, keys, keys, need_weights=False)[0][:, 0])


def token_raster(trunk: Any, tokens: torch.Tensor, side: int) -> torch.Tensor:
    """Return the patch tokens on their raster, averaged to (n, side, side, token_dim).

    Raises:
        ConfigError: the raster is coarser than that.
    """
    if tokens.ndim == 3:
        tokens = tokens[:, trunk.num_prefix_tokens :]
        there = math.isqrt(tokens.shape[1])
        tokens = tokens.unflatten(1, (there, there))
    check_side(side, tokens.shape[1])
    raster = tokens.permute(0, 3, 1, 2)
    return torch.nn.functional.adaptive_avg_pool2d(raster, side).permute(0, 2, 3, 1)


def check_side(side: int, there: int) -> None:
    """Raise ConfigError if `side` by `side` tokens are asked of a raster of `there` by `there`."""
    if side > there:
        raise ConfigError(
            f"{side} × {side} tokens of a patch are asked for, the encoder has {there} × {there}",
            hint=f"give --token-side {there} or less",
        )
