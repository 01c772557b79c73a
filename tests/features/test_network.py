from dataclasses import replace

import pytest
import torch

from features import ENCODERS, EncoderConfig, find_encoder
from features.network import build_network, create_trunk
from tiling import ConfigError


def thin(name, **more):
    entry = ENCODERS[name]
    small = {"depth": 1, "embed_dim": 48, "num_heads": 4} | more
    return entry.card, replace(entry.load, options={**entry.load.options, **small})


def built(name, tmp_path, *, token_side=0, **more):
    card, architecture = thin(name, **more)
    torch.save(create_trunk(architecture, card).state_dict(), tmp_path / "a.bin")
    config = EncoderConfig(encoder=name, weights=str(tmp_path / "a.bin"), token_side=token_side)
    return build_network(architecture, card, config)


@pytest.mark.parametrize("name", ["uni", "dinov3-vits16", "virchow2", "h-optimus-0", "conch", "gigapath"])
def test_what_is_built_has_all_its_numbers(name, tmp_path):
    network = built(name, tmp_path)
    held = [*network.parameters(), *network.buffers()]
    assert {tensor.device.type for tensor in held} == {"cpu"}
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    assert (
        network(torch.zeros(1, 3, 448, 448) if name == "conch" else torch.zeros(1, 3, 224, 224))
        .isfinite()
        .all()
    )


def test_weights_in_half_precision_are_computed_with_in_full(tmp_path):
    card, architecture = thin("uni")
    state = create_trunk(architecture, card).state_dict()
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "a.bin")
    network = build_network(architecture, card, EncoderConfig(encoder="uni", weights=str(tmp_path / "a.bin")))
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    torch.testing.assert_close(network.trunk.norm.weight, state["norm.weight"].half().float())


def test_more_tokens_than_there_are_are_refused_before_a_slide_is_read(tmp_path):
    assert built("h-optimus-0", tmp_path, token_side=16) is not None
    with pytest.raises(ConfigError, match=r"17 × 17 tokens.*16 × 16.*--token-side 16"):
        built("h-optimus-0", tmp_path, token_side=17)


def test_where_patches_of_several_sizes_fit_the_raster_is_that_of_the_patch(tmp_path):
    network = built("uni", tmp_path, token_side=20)
    assert network(torch.zeros(1, 3, 320, 320))[1].shape == (1, 20, 20, 48)
    with pytest.raises(ConfigError, match="has 14 × 14"):
        network(torch.zeros(1, 3, 224, 224))


def test_a_network_without_a_raster_gives_features_alone(tmp_path):
    entry = find_encoder("timm:test_resnet")
    torch.save(create_trunk(entry.load, entry.card).state_dict(), tmp_path / "a.bin")
    config = EncoderConfig(encoder="timm:test_resnet", weights=str(tmp_path / "a.bin"), token_side=2)
    network = build_network(entry.load, entry.card, config).eval()
    assert network(torch.zeros(1, 3, 160, 160)).shape == (1, entry.card.dim)
