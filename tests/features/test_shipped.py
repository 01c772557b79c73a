"""The encoder that comes with the package and is the default: its files, its card, and no need for more."""

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import features
from features import DEFAULT_ENCODER, ENCODERS, EncoderConfig, find_encoder, load_encoder
from features.encoder_folder import FolderEncoder, read_card, save_encoder_folder
from features.shipped import _embedded
from tiling import ConfigError, FormatError, GridConfig

NAME = "embedded"
FOLDER = Path(features.__file__).with_name(NAME)
MOST_BYTES = 16_000_000


def patches(n=3):
    side = find_encoder(NAME).card.input_px
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def built():
    """The whole network, and the registry's entry that built it."""
    entry = ENCODERS[NAME]
    assert isinstance(entry.load, FolderEncoder)
    return entry.load.build(entry.card, EncoderConfig(encoder=NAME, token_side=1)), entry


def test_it_is_what_is_taken_where_none_is_named():
    assert DEFAULT_ENCODER == EncoderConfig().encoder == NAME
    assert load_encoder(EncoderConfig()).card == find_encoder(NAME).card
    assert find_encoder(NAME).card.name == NAME


def test_it_is_listed_and_nothing_is_read_before_it_is_asked_for():
    told = (
        "import sys; read = [];"
        "sys.addaudithook(lambda what, told: what == 'open' and read.append(str(told[0])));"
        "import mil.cli; from features import ENCODERS;"
        "assert 'embedded' in list(ENCODERS); assert 'embedded' in ENCODERS;"
        "assert not [path for path in read if 'embedded' in path], read;"
        "ENCODERS['embedded']; assert [path for path in read if path.endswith('card.json')];"
        "assert not [path for path in read if path.endswith('.safetensors')]"
    )
    root = FOLDER.parents[1]
    done = subprocess.run([sys.executable, "-c", told], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_told_with_this_one_too():
    with pytest.raises(ConfigError, match=r"unknown encoder 'embeded'; choose from .*\bembedded\b"):
        find_encoder("embeded")


def test_its_files_are_small_and_of_float16():
    assert sorted(path.name for path in FOLDER.iterdir()) == ["card.json", "weights.safetensors"]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES
    assert {value.dtype for value in load_file(FOLDER / "weights.safetensors").values()} == {torch.float16}


def test_its_card_tells_what_it_is_worth():
    told = read_card(FOLDER)
    assert told["weights_dtype"] == "float16"
    for key in ("data", "recipe", "figures", "limits", "licence", "source"):
        assert told[key], key
    assert {"identity", "config", "versions"} <= told["recipe"].keys()
    assert told["data"]["about"]
    # it goes to others, to whom no place on the machine that it was made on means anything
    assert not re.search(r"/(home|root|tmp|work)\b", json.dumps(told))


def test_what_is_loaded_are_the_weights_in_the_file():
    network, _ = built()
    stored, loaded = load_file(FOLDER / "weights.safetensors"), network.trunk.state_dict()
    assert stored.keys() == loaded.keys()
    for name, value in stored.items():
        assert torch.equal(loaded[name], value.float()), name


def test_saved_and_loaded_again_it_is_the_same(tmp_path):
    network, entry = built()
    save_encoder_folder(tmp_path / "again", network.trunk, entry.card, entry.load.architecture)
    shutil.copytree(FOLDER, tmp_path / "copied")
    own = load_encoder(EncoderConfig(encoder=NAME))
    for folder in ("again", "copied"):
        other = load_encoder(EncoderConfig(encoder=str(tmp_path / folder)))
        assert other.fingerprint == own.fingerprint
        np.testing.assert_array_equal(other.encode(patches()), own.encode(patches()))


def test_nothing_is_fetched(monkeypatch):
    def refuse(*args):
        raise AssertionError(f"the network was asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load_encoder(EncoderConfig()).encode(patches()).shape == (3, find_encoder(NAME).card.dim)


def test_default_tiles_are_what_it_wants():
    grid = GridConfig()
    find_encoder(DEFAULT_ENCODER).card.check_patch(grid.tile_px, grid.tile_mpp)


def test_where_its_files_are_gone_that_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("features.shipped.__file__", str(tmp_path / "shipped.py"))
    with pytest.raises(ConfigError, match=r"embedded: no such folder with .*; install slidebag again"):
        _embedded()


@pytest.mark.parametrize("content", ["[", "{}", '{"format": "slidebag.encoder", "format_version": 1}'])
def test_where_its_card_is_damaged_the_package_is_to_be_installed_again(monkeypatch, tmp_path, content):
    shutil.copytree(FOLDER, tmp_path / NAME)
    (tmp_path / NAME / "card.json").write_text(content)
    monkeypatch.setattr("features.shipped.__file__", str(tmp_path / "shipped.py"))
    with pytest.raises(FormatError, match=r"card.json.*; install slidebag again"):
        _embedded()


def test_where_its_weights_are_damaged_too(monkeypatch, tmp_path):
    shutil.copytree(FOLDER, tmp_path / NAME)
    (tmp_path / NAME / "weights.safetensors").write_bytes(b"torn")
    monkeypatch.setattr("features.shipped.__file__", str(tmp_path / "shipped.py"))
    entry = _embedded()
    with pytest.raises(ConfigError, match=r"does not fit .* the card says .*; install slidebag again"):
        entry.load(entry.card, EncoderConfig(encoder=NAME), "cpu")


def test_its_weights_are_not_to_be_replaced():
    with pytest.raises(ConfigError, match="has its weights in its folder; leave out --weights"):
        load_encoder(EncoderConfig(encoder=NAME, weights=str(FOLDER / "weights.safetensors")))
