"""A transformer's last block, where nothing but the class token is read of it."""

from typing import Any

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch.nn.functional import linear, scaled_dot_product_attention

from .pooling import Pooling, by_head, class_token


class ClassTokenBlock(torch.nn.Module):
    """A block of timm's transformer that gives the class token alone: (n, tokens, width) -> (n, 1, width).

    Keys and values are still of all tokens; query, projection and feed-forward layer are of one, which
    leaves out some 85 % of the block. Its tensors are the block's own, under the same names.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        for name, part in block.named_children():
            self.add_module(name, part)
        self.train(block.training)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what the block makes of the first token."""
        parts: Any = self
        first = tokens[:, :1]
        first = first + parts.drop_path1(parts.ls1(self._attend(parts.attn, parts.norm1(tokens))))
        return first + parts.drop_path2(parts.ls2(parts.mlp(parts.norm2(first))))

    @staticmethod
    def _attend(attn: Any, tokens: torch.Tensor) -> torch.Tensor:
        """What the first token takes from all of them: (n, 1, width)."""
        width, bias = attn.num_heads * attn.head_dim, attn.qkv.bias
        biases = (None, None) if bias is None else (bias[:width], bias[width:])
        heads = (attn.num_heads, attn.head_dim)
        query = linear(tokens[:, :1], attn.qkv.weight[:width], biases[0]).unflatten(-1, heads)
        both = linear(tokens, attn.qkv.weight[width:], biases[1]).unflatten(-1, (2, *heads))
        key, value = both.permute(2, 0, 3, 1, 4).unbind(0)  # (n, heads, tokens, width of a head)
        query, key = attn.q_norm(query.transpose(1, 2)), attn.k_norm(key)
        found = scaled_dot_product_attention(query, key, value)
        return attn.proj(attn.norm(found.transpose(1, 2).flatten(2)))


def shorten_last_block(trunk: Any, pool: Pooling) -> None:
    """Let the last block of a plain timm transformer compute the class token alone, if `pool` reads no other.

    Other trunks and poolings are left as they are.
    """
    reads_one = pool is class_token or (pool is by_head and getattr(trunk, "global_pool", "") == "token")
    if not reads_one or type(trunk) is not VisionTransformer or not trunk.has_class_token:
        return
    block: Any = trunk.blocks[-1]
    if type(block) is Block and type(block.attn) is Attention and getattr(block.attn, "gate", None) is None:
        trunk.blocks[-1] = ClassTokenBlock(block)
