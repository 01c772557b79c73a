"""Every named network: its size, and its vector and tokens against those written out by hand."""

from dataclasses import replace

import pytest
import torch

from features import ENCODERS
from features.architecture import Architecture
from features.network import Network, create_trunk
from features.pooling import POOLINGS

ZOO = [name for name in ENCODERS if isinstance(ENCODERS[name].load, Architecture)]

# (millions of parameters, tokens before those of the image) as their authors publish them: the numbers
# tell a gated from a plain layer, and a position embedding of one size from that of another
FACTS = {
    "conch": (87.6, 1),
    "ctranspath": (27.5, 0),
    "dino-vits16": (21.7, 1),
    "dino-vits8": (21.7, 1),
    "dino-vitb16": (85.8, 1),
    "dino-vitb8": (85.8, 1),
    "dinobloom-s": (21.6, 1),
    "dinobloom-b": (85.7, 1),
    "dinobloom-l": (303.2, 1),
    "dinobloom-g": (1134.8, 1),
    "dinov2-vits14": (22.1, 1),
    "dinov2-vitb14": (86.6, 1),
    "dinov2-vitl14": (304.4, 1),
    "dinov2-vitg14": (1136.5, 1),
    "dinov2-reg-vits14": (22.1, 5),
    "dinov2-reg-vitb14": (86.6, 5),
    "dinov2-reg-vitl14": (304.4, 5),
    "dinov2-reg-vitg14": (1136.5, 5),
    "dinov3-vits16": (21.6, 5),
    "dinov3-vits16plus": (28.7, 5),
    "dinov3-vitb16": (85.6, 5),
    "dinov3-vitl16": (303.1, 5),
    "dinov3-vith16plus": (840.5, 5),
    "dinov3-vit7b16": (6716.0, 5),
    "gigapath": (1134.9, 1),
    "h-optimus-0": (1134.8, 5),
    "h-optimus-1": (1134.8, 5),
    "h0-mini": (85.7, 5),
    "hibou-b": (85.7, 5),
    "hibou-l": (303.7, 5),
    "kaiko-vits16": (21.7, 1),
    "kaiko-vits8": (21.7, 1),
    "kaiko-vitb16": (85.8, 1),
    "kaiko-vitb8": (85.8, 1),
    "kaiko-vitl14": (304.4, 5),
    "lunit-vits16": (21.7, 1),
    "lunit-vits8": (21.7, 1),
    "midnight-12k": (1134.8, 1),
    "phikon": (85.8, 1),
    "phikon-v2": (303.4, 1),
    "plip": (87.8, 1),
    "quiltnet": (87.8, 1),
    "resnet50": (23.5, 0),
    "uni": (303.4, 1),
    "uni2-h": (681.4, 9),
    "virchow": (631.2, 1),
    "virchow2": (631.2, 5),
}
CLASS_AND_MEAN = {"h0-mini", "midnight-12k", "virchow", "virchow2"}
PROJECTED = {"plip", "quiltnet"}
WIDTH = 192
SMALL = {"depth": 1, "embed_dim": WIDTH, "num_heads": 4}
OTHERWISE_SMALL = {"resnet50": {"layers": (1, 1, 1, 1)}, "ctranspath": {"depths": (1, 1, 1, 1)}}


def test_each_of_them_is_told_of_here():
    assert sorted(FACTS) == sorted(ZOO)


@pytest.mark.parametrize("name", ZOO)
def test_it_is_as_large_as_its_authors_say(name):
    entry = ENCODERS[name]
    with torch.device("meta"):  # shapes without numbers: no memory, no time
        trunk = create_trunk(entry.load, entry.card)
    size, n_prefix = FACTS[name]
    assert sum(p.numel() for p in trunk.parameters()) / 1e6 == pytest.approx(size, abs=0.06)
    assert getattr(trunk, "num_prefix_tokens", 0) == n_prefix
    assert entry.card.dim == trunk.num_features * (2 if name in CLASS_AND_MEAN else 1) or name in (
        PROJECTED | {"conch"}
    )
    if entry.card.token_dim:
        assert entry.card.token_dim == trunk.num_features


def shrunk(name):
    """The same architecture, one thin layer deep, random; and its card."""
    entry = ENCODERS[name]
    card = entry.card
    if name not in OTHERWISE_SMALL:
        dim = {"conch": 512, "plip": 512, "quiltnet": 512}.get(name, WIDTH * (1 + (name in CLASS_AND_MEAN)))
        card = replace(card, dim=dim, token_dim=WIDTH)
    options = {**entry.load.options, **OTHERWISE_SMALL.get(name, SMALL)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = create_trunk(replace(entry.load, options=options), card).eval()
        for parameter in trunk.parameters():  # timm starts tokens and layer scales at next to nothing
            if parameter.ndim != 2 and parameter.numel() < 1e5:
                torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
        return card, trunk, torch.randn(2, 3, card.input_px, card.input_px)


def by_hand(name, trunk, tokens, n_prefix):
    """The vector as the authors' model cards write it."""
    if name in CLASS_AND_MEAN:
        return torch.cat([tokens[:, 0], tokens[:, n_prefix:].mean(1)], dim=-1)
    if name in PROJECTED:
        return tokens[:, 0] @ trunk.head.weight.T + trunk.head.bias
    if name == "ctranspath":  # channels last
        return tokens.mean((1, 2))
    if name == "resnet50":
        return tokens.mean((2, 3))
    if name == "conch":
        return attended(trunk.head, tokens)
    return tokens[:, 0]


def attended(head, tokens):
    """CoCa's pooler, head by head."""
    keys = torch.nn.functional.layer_norm(tokens, (WIDTH,), head.ln_k.weight, head.ln_k.bias)
    query = torch.nn.functional.layer_norm(head.query, (512,), head.ln_q.weight, head.ln_q.bias)
    q_bias, k_bias, v_bias = head.attn.in_proj_bias.chunk(3)
    q = query @ head.attn.q_proj_weight.T + q_bias
    k = keys @ head.attn.k_proj_weight.T + k_bias
    v = keys @ head.attn.v_proj_weight.T + v_bias
    pooled = []
    for part in range(8):
        here = slice(64 * part, 64 * part + 64)
        weights = torch.softmax(k[:, :, here] @ q[0, here] / 64**0.5, dim=1)
        pooled.append((weights[:, :, None] * v[:, :, here]).sum(1))
    pooled = torch.cat(pooled, dim=1) @ head.attn.out_proj.weight.T + head.attn.out_proj.bias
    return torch.nn.functional.layer_norm(pooled, (512,), head.ln.weight, head.ln.bias)


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_vector_and_tokens_are_what_the_authors_take(name):
    card, trunk, images = shrunk(name)
    n_prefix = FACTS[name][1]
    side = 7 if name == "ctranspath" else card.input_px // trunk.feature_info[-1]["reduction"]
    found = Network(trunk, POOLINGS[card.pooling], token_side=side if card.token_dim else 0)(images)
    features, raster = found if card.token_dim else (found, None)
    tokens = trunk.forward_features(images)
    assert features.shape == (2, card.dim)
    torch.testing.assert_close(features, by_hand(name, trunk, tokens, n_prefix), rtol=1e-3, atol=1e-4)
    assert (features[0] - features[1]).abs().max() > 1e-3
    if raster is not None:
        tokens = tokens[:, n_prefix:].reshape(2, side, side, -1) if tokens.ndim == 3 else tokens
        torch.testing.assert_close(raster, tokens)


@pytest.mark.parametrize("name", ["uni", "kaiko-vitl14", "dinov3-vits16", "virchow2", "gigapath", "resnet50"])
@torch.inference_mode()
def test_where_a_card_takes_several_sizes_the_network_does(name):
    card, trunk, _ = shrunk(name)
    assert card.px_multiple is not None
    for side in (4, 9):
        px = side * card.px_multiple
        card.check_patch(px, card.mpp or 0.5)
        network = Network(trunk, POOLINGS[card.pooling], token_side=3 if card.token_dim else 0)
        found = network(torch.zeros(1, 3, px, px))
        assert (found[0] if card.token_dim else found).shape == (1, card.dim)
