"""Pretraining: what a card tells of the encoder, and what tells one training from another."""

import json

import pytest
import torch
from drawn_tiles import write_tiles
from onnx_graphs import write_colour
from safetensors.torch import save_file

from features import EncoderCard, EncoderConfig, PretrainConfig, pretrain
from features.architecture import Architecture
from features.encoder_folder import file_sha256, read_card, save_encoder_folder
from features.network import create_trunk
from features.pretraining.course import _weights_of
from tiling import ConfigError

OPTIONS = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
ARCHITECTURE = Architecture(timm_name="vit_tiny_patch16_224", options=OPTIONS)


def write(folder, *, resizes):
    card = EncoderCard(
        name="mine", dim=16, input_px=32, px_multiple=8, token_dim=16, pooling="class token", licence="ours",
        source="a test", resizes=resizes,
    )  # fmt: skip
    save_encoder_folder(folder, create_trunk(ARCHITECTURE, card), card, ARCHITECTURE)
    return folder


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("tiles"), 2)


def begun(tiles, folder, init, **changes):
    """Write an encoder that is `init`, nothing learned, and return whether it takes tiles of any size."""
    told = PretrainConfig(init=str(init), epochs=0, input_px=32, device="cpu", **changes)
    pretrain([tiles], folder, told)
    return read_card(folder)["resizes"]


@pytest.mark.parametrize("by_init", [False, True])
def test_it_takes_the_tiles_that_what_it_begins_from_takes_unless_told_otherwise(tiles, tmp_path, by_init):
    init = write(tmp_path / "init", resizes=by_init)
    assert begun(tiles, tmp_path / "as it is", init) == by_init
    assert begun(tiles, tmp_path / "resizing", init, resize=True)
    assert not begun(tiles, tmp_path / "plain", init, resize=False)


def test_one_that_takes_other_tiles_than_asked_for_is_not_kept_as_if_it_did(tiles, tmp_path):
    init, plain = write(tmp_path / "init", resizes=False), tmp_path / "plain"
    begun(tiles, plain, init)
    begun(tiles, plain, init, resize=False, licence="MIT")  # which is told in a new card alone
    with pytest.raises(ConfigError, match=r"plain: resizes is False in its card, wanted True; .*--no-resize"):
        begun(tiles, plain, init, resize=True)
    begun(tiles, tmp_path / "any", init, resize=True)
    with pytest.raises(ConfigError, match=r"any: resizes is True in its card, wanted False; .* --resize"):
        begun(tiles, tmp_path / "any", init)


def test_a_finished_one_begun_from_one_that_resizes_is_kept(tiles, tmp_path):
    init = write(tmp_path / "init", resizes=True)
    begun(tiles, tmp_path / "more", init)
    before = (tmp_path / "more" / "card.json").stat().st_mtime_ns
    begun(tiles, tmp_path / "more", init)
    begun(tiles, tmp_path / "more", init, resize=True)
    assert (tmp_path / "more" / "card.json").stat().st_mtime_ns == before


def test_what_is_told_anew_of_a_finished_one_stands_in_its_card(tiles, tmp_path):
    init, more = write(tmp_path / "init", resizes=False), tmp_path / "more"
    begun(tiles, more, init, licence="MIT", data="ours")
    before, weights = read_card(more), (more / "weights.safetensors").stat().st_mtime_ns
    told = {"name": "other", "licence": "CC0", "mpp": 0.5}
    begun(tiles, more, init, data="theirs", **told)
    after = read_card(more)
    assert (more / "weights.safetensors").stat().st_mtime_ns == weights
    assert after["data"] == {"about": "theirs"}
    changed = {"data", "recipe", *told}
    assert {key: after[key] for key in told} == told
    assert {key: after[key] for key in after if key not in changed} == {
        key: before[key] for key in before if key not in changed
    }
    of_recipe = after["recipe"]["config"]
    assert of_recipe == before["recipe"]["config"] | told | {"data": "theirs"}
    begun(tiles, more, init)  # what is not given stays
    assert read_card(more) == after


def test_another_card_beside_the_same_weights_makes_another_training(tmp_path):
    folder = write(tmp_path / "one", resizes=False)
    before, card = weights_of(str(folder)), json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"figures": {"auc": 1}, "licence": "MIT"}))
    assert weights_of(str(folder)) == before
    (folder / "card.json").write_text(json.dumps(card | {"pooling": "class token + mean", "dim": 32}))
    assert weights_of(str(folder)) != before


def weights_of(encoder="dinov2-vits14", weights=None):
    return _weights_of(EncoderConfig(encoder=encoder, weights=weights and str(weights)))


def test_weights_of_one_file_are_known_by_its_digest(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"one")
    assert weights_of(weights=tmp_path / "a.pth") == file_sha256(tmp_path / "a.pth")
    assert weights_of() == ""


def test_a_folder_of_weights_is_known_by_what_is_in_it_wherever_it_lies(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"same")
    (tmp_path / "two" / "README.md").write_bytes(b"of no consequence")
    before = weights_of(weights=tmp_path / "one")
    assert before == weights_of(weights=tmp_path / "two")
    (tmp_path / "two" / "model.safetensors").write_bytes(b"others")
    assert weights_of(weights=tmp_path / "two") != before


def test_an_index_is_known_by_its_shards(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "gone"}}))
    for name in ("1", "2", "3"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    before = weights_of(weights=index)
    (tmp_path / "3.safetensors").write_bytes(b"not of it")
    assert weights_of(weights=index) == before
    (tmp_path / "2.safetensors").write_bytes(b"others")
    assert weights_of(weights=index) != before


@pytest.mark.parametrize("content", ["[", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_is_left_to_who_loads_it(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert weights_of(weights=tmp_path / "a.json") == file_sha256(tmp_path / "a.json")


class Colour(torch.nn.Module):
    """The mean of each channel, times a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) * self.factor


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_an_exported_file_is_known_by_itself_and_what_is_told_beside_it(tmp_path):
    path, found = tmp_path / "a.pt", []
    for factor in (1.0, 2.0):
        torch.jit.script(Colour(factor).eval()).save(path)
        found.append(weights_of(f"torchscript:{path}"))
    for name in ("b.json", "a.txt", "a.small"):
        (tmp_path / name).write_text("{}")
    found.append(weights_of(f"torchscript:{path}"))
    assert found[1] == found[2] == file_sha256(path)
    path.with_suffix(".json").write_text('{"mean": [0, 0, 0]}')
    found.append(weights_of(f"torchscript:{path}"))
    assert len(set(found)) == 3


def test_numbers_beside_an_onnx_file_are_of_it(tmp_path):
    pytest.importorskip("onnxruntime")
    found = [
        weights_of(f"onnx:{write_colour(tmp_path / 'a.onnx', factor, numbers_in='numbers')}")
        for factor in (1.0, 2.0, 1.0)
    ]
    assert found[0] == found[2] != found[1]


def test_a_folder_in_timms_layout_is_known_by_what_is_in_it(tmp_path):
    config = {"architecture": "test_vit", "num_classes": 0, "num_features": 64, "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = []
    for number in (1.0, 2.0):
        save_file({"a": torch.tensor(number)}, tmp_path / "model.safetensors")
        found.append(weights_of(f"timm:local-dir:{tmp_path}"))
    assert found[0] != found[1]
    assert "" not in found
