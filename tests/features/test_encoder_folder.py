"""An encoder as a folder: found by path, computed as it was saved, refused where card and weights differ."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from features import ENCODERS, EncoderCard, EncoderConfig, find_encoder, load_encoder
from features.architecture import Architecture
from features.encoder_folder import folder_entry, read_card, save_encoder_folder
from features.network import create_trunk
from tiling import ConfigError, FormatError

OPTIONS = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "init_values": 0.1}
ARCHITECTURE = Architecture(timm_name="vit_tiny_patch16_224", options=OPTIONS)


def card(name="mine", **facts):
    told = {
        "dim": 16, "input_px": 32, "px_multiple": 8, "token_dim": 16, "mpp": 0.5, "pooling": "class token",
        "mean": (0.6, 0.5, 0.4), "std": (0.2, 0.3, 0.25), "licence": "ours", "source": "a test",
    }  # fmt: skip
    return EncoderCard(name=name, **(told | facts))


def write(folder, seed=0, facts=None, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = create_trunk(ARCHITECTURE, card()).eval()
    told = card(**(facts or {}))
    save_encoder_folder(folder, trunk, told, ARCHITECTURE, about={"limits": "a test's"}, **options)
    return trunk


def patches(n=3, side=32):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def by_hand(trunk, given):
    images = torch.from_numpy(given).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (card().mean, card().std))
    with torch.no_grad():
        return trunk.forward_features((images - mean) / std)[:, 0].numpy()


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("float16", 2e-2)])
def test_it_computes_what_was_saved(tmp_path, dtype, atol):
    trunk = write(tmp_path / "e", dtype=dtype)
    encoder = load_encoder(EncoderConfig(encoder=str(tmp_path / "e"), engine="torch", precision="float32"))
    np.testing.assert_allclose(encoder.encode(patches()), by_hand(trunk, patches()), atol=atol)
    larger = patches(side=48)
    np.testing.assert_allclose(encoder.encode(larger), by_hand(trunk, larger), atol=atol)
    assert (encoder.card.dim, encoder.card.mpp, encoder.card.licence) == (16, 0.5, "ours")
    assert read_card(tmp_path / "e")["limits"] == "a test's"


def test_it_makes_patches_of_any_size_as_large_as_it_wants_them(tmp_path):
    trunk = write(tmp_path / "e", facts={"resizes": True}, dtype="float32")
    told = EncoderConfig(encoder=str(tmp_path / "e"), engine="torch", precision="float32", token_side=2)
    encoder = load_encoder(told)
    np.testing.assert_allclose(encoder.encode(patches()), by_hand(trunk, patches()), atol=1e-5)
    for side in (7, 30, 64):
        given = patches(side=side)
        how = cv2.INTER_AREA if side > 32 else cv2.INTER_CUBIC
        own = np.stack([cv2.resize(patch, (32, 32), interpolation=how) for patch in given])
        vectors, tokens = encoder.encode_tokens(given)
        np.testing.assert_allclose(vectors, by_hand(trunk, own), atol=1e-5)
        assert tokens.shape == (3, 2, 2, 16)
    encoder.card.check_patch(64, 0.25)  # seen at 0.5
    with pytest.raises(
        ConfigError, match=r"at 0\.5 .* trained at 0\.5 and sees 1; tile with --tile-mpp 0\.25"
    ):
        encoder.card.check_patch(64, 0.5)
    write(tmp_path / "other", dtype="float32")
    other = load_encoder(EncoderConfig(encoder=str(tmp_path / "other"), engine="torch", precision="float32"))
    assert other.fingerprint != encoder.fingerprint


def test_its_tokens_are_on_a_raster(tmp_path):
    write(tmp_path / "e")
    encoder = load_encoder(EncoderConfig(encoder=str(tmp_path / "e"), token_side=2))
    assert encoder.encode_tokens(patches())[1].shape == (3, 2, 2, 16)


def test_it_is_found_by_any_path_and_known_by_its_weights(tmp_path, monkeypatch):
    write(tmp_path / "e")
    write(tmp_path / "other", seed=1)
    shutil.copytree(tmp_path / "e", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    names = [str(tmp_path / "e"), "./e", "./e/", "./moved", "./other"]
    e, *others = (load_encoder(EncoderConfig(encoder=name)) for name in names)
    assert [each.fingerprint == e.fingerprint for each in others] == [True, True, True, False]
    assert [each.card.name for each in others[:2]] == [e.card.name] * 2 == [str(tmp_path / "e")] * 2
    assert find_encoder("./e").card.name == e.card.name
    monkeypatch.chdir(tmp_path.parent)
    assert load_encoder(EncoderConfig(encoder=f"{tmp_path.name}/e")).fingerprint == e.fingerprint


def test_a_folder_may_have_a_name_of_its_own(tmp_path):
    write(tmp_path / "e")
    entry = folder_entry(tmp_path / "e", "given")
    encoder = entry.load(entry.card, EncoderConfig(), "cpu")
    assert encoder.card.name == "given"
    assert encoder.fingerprint == load_encoder(EncoderConfig(encoder=str(tmp_path / "e"))).fingerprint


def spoil(folder, **changes):
    told = json.loads((folder / "card.json").read_text())
    for key, value in changes.items():
        told[key] = told[key] | value if isinstance(value, dict) else value
    (folder / "card.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"depth": 3}, r"card.json does not fit weights.safetensors \(.*tensors differ, as blocks.2"),
        ({"depth": 1}, r"tensors differ, as blocks.1"),
        ({"embed_dim": 32}, "tensors differ"),
        ({"img_size": 64}, "tensors differ, as pos_embed"),
        ({"num_heads": 3}, "does not fit"),
        ({"depth": "two"}, "does not fit .*TypeError"),
    ],
)
def test_a_card_of_another_network_is_refused(tmp_path, options, match):
    write(tmp_path / "e")
    told = json.loads((tmp_path / "e" / "card.json").read_text())["architecture"]
    spoil(tmp_path / "e", architecture=told | {"options": told["options"] | options})
    with pytest.raises(ConfigError, match=match):
        load_encoder(EncoderConfig(encoder=str(tmp_path / "e")))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dim": 100}, "dim is 100, that of the network 16"),
        ({"token_dim": 7}, "token_dim is 7, that of the network 16"),
        ({"pooling": "class token + mean"}, "dim is 16, that of the network 32"),
        ({"pooling": "nonsense"}, "pooling is 'nonsense', wanted class token, "),
        ({"px_multiple": 4}, r"AssertionError: .*36.* divisible by patch size \(8\)"),
        ({"px_multiple": None, "input_px": 40}, "40"),
    ],
)
def test_a_card_that_tells_other_vectors_tokens_or_patches_than_the_network_has_is_refused(
    tmp_path, changes, told
):
    write(tmp_path / "e")
    spoil(tmp_path / "e", **changes)
    with pytest.raises(ConfigError, match=rf"card.json does not fit weights.safetensors \(.*{told}"):
        load_encoder(EncoderConfig(encoder=str(tmp_path / "e")))


def test_patches_of_every_second_token_only_are_as_the_card_tells(tmp_path):
    write(tmp_path / "e", facts={"px_multiple": 16})
    encoder = load_encoder(EncoderConfig(encoder=str(tmp_path / "e")))
    assert encoder.encode(patches(side=48)).shape == (3, 16)
    with pytest.raises(ConfigError, match="multiple of 16"):
        encoder.card.check_patch(40, 0.5)


def test_other_weights_than_the_cards_are_refused(tmp_path):
    write(tmp_path / "e")
    path = tmp_path / "e" / "weights.safetensors"
    state = load_file(path)
    save_file({**state, "cls_token": state["cls_token"] + 1}, path)
    with pytest.raises(ConfigError, match=r"SHA-256 is .* the card says .*; take both files"):
        load_encoder(EncoderConfig(encoder=str(tmp_path / "e")))
    path.unlink()
    with pytest.raises(ConfigError, match=r"no such folder with card.json and weights"):
        load_encoder(EncoderConfig(encoder=str(tmp_path / "e")))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": "slidebag.grid"}, "wanted 'slidebag.encoder'"),
        ({"format_version": 99}, "format version 99"),
        ({"mean": None}, "is no card of an encoder"),
        ({"architecture": 3}, "is no card of an encoder"),
        ({"dim": 0}, "dim is 0, wanted a whole number above 0"),
        ({"dim": "16"}, "dim is '16', wanted a whole"),
        ({"dim": True}, "dim is True, wanted a whole"),
        ({"input_px": 33}, "input_px is 33, wanted a multiple of 8"),
        ({"px_multiple": 7}, "input_px is 32, wanted a multiple of 7"),
        ({"px_multiple": 0}, "px_multiple is 0, wanted a whole number above 0, or null"),
        ({"token_dim": 1.5}, "token_dim is 1.5, wanted"),
        ({"mpp": 0}, "mpp is 0, wanted a number above 0, or null"),
        ({"mean": [0.5, 0.5]}, r"mean is \[0.5, 0.5\], wanted three numbers"),
        ({"mean": [0.5, 0.5, float("nan")]}, "wanted three numbers"),
        ({"std": [0.2, 0, 0.2]}, "std is .*, wanted three numbers above 0"),
        ({"resizes": "no"}, "resizes is 'no', wanted true or false"),
        ({"pooling": 3}, "pooling is 3, wanted text"),
        ({"weights_sha256": None}, "weights_sha256 is None, wanted text"),
    ],
)
def test_a_damaged_or_newer_card_is_refused(tmp_path, changes, match):
    write(tmp_path / "e")
    spoil(tmp_path / "e", **changes)
    with pytest.raises(FormatError, match=match):
        find_encoder(str(tmp_path / "e"))
    (tmp_path / "e" / "card.json").write_text("[")
    with pytest.raises(FormatError, match="is no card of an encoder"):
        find_encoder(str(tmp_path / "e"))


def test_no_weights_beside_it_and_no_such_folder(tmp_path):
    write(tmp_path / "e")
    path = tmp_path / "e" / "weights.safetensors"
    with pytest.raises(ConfigError, match="leave out --weights"):
        load_encoder(EncoderConfig(encoder=str(tmp_path / "e"), weights=str(path)))
    with pytest.raises(ConfigError, match="no such folder with"):
        find_encoder("./none")


class Trap:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    "option",
    ["checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "shape"],
)
def test_options_that_are_of_no_shape_of_a_network_are_not_given_to_timm(tmp_path, monkeypatch, option):
    write(tmp_path / "e")
    torch.save({"model": Trap(tmp_path / "ran")}, tmp_path / "x.pth")
    told = {"options": OPTIONS | {option: str(tmp_path / "x.pth")}}
    spoil(tmp_path / "e", architecture=told)
    monkeypatch.setattr("timm.create_model", lambda *_, **given: pytest.fail(f"timm was given {given}"))
    with pytest.raises(FormatError, match=rf"options is .*{option}.*, wanted no others than class_token, "):
        load_encoder(EncoderConfig(encoder=str(tmp_path / "e")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["hf-hub:some/model", "HF_HUB:some/model", "local-dir:x", "some/model", 3])
def test_a_network_that_lies_elsewhere_is_not_asked_for(tmp_path, name):
    write(tmp_path / "e")
    spoil(tmp_path / "e", architecture={"timm_name": name})
    with pytest.raises(FormatError, match=f"timm_name is {name!r}, wanted the name of a model of timm"):
        find_encoder(str(tmp_path / "e"))


def test_networks_of_all_encoders_may_stand_in_a_card(tmp_path):
    entries = {name: ENCODERS[name] for name in ENCODERS}
    built = {name: entry for name, entry in entries.items() if isinstance(entry.load, Architecture)}
    assert len(built) > 40
    for name, entry in built.items():
        save_encoder_folder(tmp_path / name, torch.nn.Linear(1, 1), entry.card, entry.load)
        read = folder_entry(tmp_path / name, name)
        assert replace(read.card, access=entry.card.access) == entry.card
        assert read.load.architecture.options == entry.load.options


def test_a_bare_name_is_no_path_and_the_hint_says_how_to_make_it_one(tmp_path, monkeypatch):
    write(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown encoder 'mine'; give \./mine for the folder"):
        load_encoder(EncoderConfig(encoder="mine"))
    assert load_encoder(EncoderConfig(encoder="./mine")).card.dim == 16
    with pytest.raises(ConfigError, match="unknown encoder 'none'; choose from"):
        load_encoder(EncoderConfig(encoder="none"))
