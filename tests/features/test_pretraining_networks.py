"""Pretraining from scratch: which networks of timm can be taken, and that the card is theirs."""

import pytest

from features import PretrainConfig
from features.network import check_card
from features.pretraining.networks import plan_network
from tiling import ConfigError


def plan(arch, **options):
    return plan_network(PretrainConfig(arch=arch, local_px=112, **options), "mine", None)


@pytest.mark.parametrize(
    "arch",
    ["beit_base_patch16_224", "cait_xxs24_224", "convit_tiny", "vit_relpos_base_patch16_cls_224",
     "xcit_nano_12_p16_224", "tnt_s_patch16_224"],
)  # fmt: skip
def test_a_transformer_whose_positions_do_not_fit_themselves_is_refused_with_what_is_wanted(arch):
    with pytest.raises(
        ConfigError, match=rf"{arch} cannot be built .*; .*class token.* positions that fit any"
    ):
        plan(arch)


def test_one_without_a_class_token_too():
    with pytest.raises(ConfigError, match="vit_base_patch16_gap_224 has no class token; take a vision"):
        plan("vit_base_patch16_gap_224")


@pytest.mark.parametrize("pooling", ["class token", "class token + mean"])
@pytest.mark.parametrize(
    "arch",
    ["vit_tiny_patch16_224", "deit3_small_patch16_224", "vit_small_patch16_dinov3", "eva02_tiny_patch14_224"],
)
def test_the_card_is_that_of_the_network(arch, pooling):
    planned = plan(arch, pooling=pooling)
    check_card(planned.architecture, planned.card)
    width, token_px = planned.card.token_dim, planned.card.px_multiple
    assert planned.card.dim == width * (2 if "mean" in pooling else 1)
    trunk = planned.trunk(0.1)
    assert (trunk.num_features, trunk.patch_embed.patch_size) == (width, (token_px, token_px))
