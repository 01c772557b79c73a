"""Where the class token alone is read, the last block computes nothing else, and the same."""

import copy

import pytest
import timm
import torch

from features import EncoderCard, EncoderConfig
from features.engine import start_engine
from features.last_block import ClassTokenBlock
from features.network import Network
from features.pooling import POOLINGS

CARD = EncoderCard(name="vit", dim=96, input_px=112, licence="", source="")
SMALL = {"img_size": 112, "embed_dim": 96, "depth": 3, "num_heads": 3, "num_classes": 0}
KINDS = {
    "plain": {},
    "registers": {"reg_tokens": 4},
    "layer scale": {"init_values": 0.3},
    "registers, layer scale, norms of query and key": {"reg_tokens": 2, "init_values": 2.0, "qk_norm": True},
    "no bias": {"qkv_bias": False},
    "norms of attention and feed-forward": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "gated": {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU},
    "any size": {"dynamic_img_size": True},
}


def trunk(**options):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = timm.create_model("vit_small_patch16_224", **(SMALL | options)).eval()
        for parameter in model.parameters():  # no bias or norm that is left out hides behind 0 or 1
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def images(n=4):
    return torch.randn(n, 3, 112, 112, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pooling", ["class token", "as in timm"])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_whole_block(kind, pooling):
    plain = trunk(**KINDS[kind])
    network = Network(copy.deepcopy(plain), POOLINGS[pooling])
    assert isinstance(network.trunk.blocks[-1], ClassTokenBlock)
    with torch.inference_mode():
        wanted, found = plain(images()), network(images())
    assert torch.cosine_similarity(wanted, found).min() > 0.999999
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert wanted.std(dim=0).min() > 1e-3  # patches differ, so that agreeing says something


def test_the_tensors_keep_their_names_so_that_an_encoder_keeps_its_fingerprint():
    plain = trunk(**KINDS["layer scale"])
    names = {f"trunk.{name}" for name in plain.state_dict()}
    assert set(Network(plain, POOLINGS["class token"]).state_dict()) == names


@pytest.mark.parametrize(
    ("options", "pooling", "token_side"),
    [
        ({}, "class token", 2),
        ({}, "class token + mean", 0),
        ({"global_pool": "avg"}, "as in timm", 0),
        ({"global_pool": "", "class_token": False}, "as in timm", 0),
    ],
)
def test_where_other_tokens_are_read_the_block_stays_whole(options, pooling, token_side):
    network = Network(trunk(**options), POOLINGS[pooling], token_side=token_side)
    assert not isinstance(network.trunk.blocks[-1], ClassTokenBlock)
    network(images(1))


@pytest.mark.parametrize(
    ("name", "options", "pooling"),
    [
        ("test_resnet", {}, "as in timm"),
        ("eva02_tiny_patch14_224", {"depth": 1}, "class token"),
        (
            "vit_small_patch16_224",
            SMALL | {"block_fn": timm.models.vision_transformer.ResPostBlock},
            "class token",
        ),
    ],
)
def test_other_networks_stay_as_they_are(name, options, pooling):
    model = timm.create_model(name, **({"num_classes": 0} | options)).eval()
    kinds = [type(module) for module in model.modules()]
    assert [type(module) for module in Network(model, POOLINGS[pooling]).trunk.modules()] == kinds


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_every_engine_computes_it(engine, precision):
    if engine == "openvino":
        openvino = pytest.importorskip("features.openvino_engine")
        if precision not in openvino.openvino_precisions():
            pytest.skip(f"no {precision} here")
    plain = trunk(**KINDS["any size"])
    network = Network(copy.deepcopy(plain), POOLINGS["class token"])
    started = start_engine(network, CARD, EncoderConfig(engine=engine, precision=precision), "cpu")
    patches = torch.randint(0, 256, (3, 112, 112, 3), generator=torch.Generator().manual_seed(2)).byte()
    with torch.inference_mode():
        wanted = plain(patches.permute(0, 3, 1, 2) / 255)
    found = torch.from_numpy(started.run(patches.numpy())[0])
    assert torch.cosine_similarity(wanted, found).min() > (0.9999 if precision == "float32" else 0.99)
