import logging
from dataclasses import replace

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

import features.hub
from features import ENCODERS, EncoderConfig, load_encoder
from features.network import build_network, create_trunk
from tiling import SlidebagError


def hub_error(kind):
    """The hub's errors want a response; without one they are made by hand."""
    error = kind.__new__(kind)
    error.args = ("told by the hub",)
    return error


def answers(monkeypatch, told):
    """Let the hub answer by file name: a path, or an error to raise; return what it was asked for."""
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        answer = told.get(name, hub_error(EntryNotFoundError))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(features.hub, "hf_hub_download", download)
    return asked


def thin(name):
    entry = ENCODERS[name]
    options = {**entry.load.options, "depth": 1, "embed_dim": 48, "num_heads": 4}
    return entry.card, replace(entry.load, options=options)


def test_the_better_file_is_taken_and_the_other_where_it_is_not_there(monkeypatch, tmp_path):
    card, architecture = thin("uni")
    torch.save(create_trunk(architecture, card).state_dict(), tmp_path / "a.bin")
    asked = answers(monkeypatch, {"pytorch_model.bin": tmp_path / "a.bin"})
    build_network(architecture, card, EncoderConfig(encoder="uni"))
    assert asked == [("MahmoodLab/UNI", "model.safetensors"), ("MahmoodLab/UNI", "pytorch_model.bin")]


def test_where_the_authors_file_has_a_name_of_its_own_that_is_asked_for(monkeypatch):
    asked = answers(monkeypatch, {})
    with pytest.raises(SlidebagError, match="quiltnet: no weights from wisdomik/QuiltNet-B-32"):
        load_encoder(EncoderConfig(encoder="quiltnet"))
    assert asked == [("wisdomik/QuiltNet-B-32", "open_clip_pytorch_model.bin")]


@pytest.mark.parametrize("kind", [GatedRepoError, RepositoryNotFoundError])
def test_a_gated_model_says_where_to_ask_and_how_to_do_without(monkeypatch, kind):
    answers(monkeypatch, {"model.safetensors": hub_error(kind)})
    with pytest.raises(SlidebagError) as caught:
        load_encoder(EncoderConfig(encoder="virchow"))
    told = str(caught.value)
    for part in (
        "virchow",
        "is gated",
        "https://huggingface.co/paige-ai/Virchow",
        "hf auth login",
        "--weights",
    ):
        assert part in told


def test_a_free_model_that_became_gated_says_where_to_ask(monkeypatch):
    answers(monkeypatch, {"model.safetensors": hub_error(GatedRepoError)})
    with pytest.raises(SlidebagError, match=r"ask at https://huggingface\.co/owkin/phikon-v2"):
        load_encoder(EncoderConfig(encoder="phikon-v2"))


def test_without_a_network_a_gated_model_says_both(monkeypatch):
    answers(monkeypatch, dict.fromkeys(features.hub.FILES, hub_error(LocalEntryNotFoundError)))
    with pytest.raises(SlidebagError, match=r"connect to the network once \(gated: ask at https.*--weights"):
        load_encoder(EncoderConfig(encoder="uni2-h"))


def test_where_the_hub_is_switched_off_that_is_told(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    answers(monkeypatch, dict.fromkeys(features.hub.FILES, hub_error(LocalEntryNotFoundError)))
    with pytest.raises(SlidebagError, match="unset HF_HUB_OFFLINE"):
        load_encoder(EncoderConfig(encoder="lunit-vits8"))


def test_a_broken_connection_is_told(monkeypatch):
    answers(monkeypatch, {"model.safetensors": ConnectionResetError("reset")})
    with pytest.raises(SlidebagError, match=r"lunit-vits8.*ConnectionResetError"):
        load_encoder(EncoderConfig(encoder="lunit-vits8"))


@pytest.mark.parametrize("name", ["lunit-vits8", "timm:resnet18"])
def test_the_library_s_retries_are_not_told_and_its_log_is_left_as_it_was(name, monkeypatch, caplog):
    log = logging.getLogger("huggingface_hub.utils._http")

    def download(*_, **__):
        log.warning("Retrying in 1s [Retry 1/5].")
        log.error("a mistake")
        raise hub_error(LocalEntryNotFoundError)

    monkeypatch.setattr(features.hub, "hf_hub_download", download)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    level = log.getEffectiveLevel()
    with pytest.raises(SlidebagError, match="no weights from"):
        load_encoder(EncoderConfig(encoder=name))
    assert {record.getMessage() for record in caplog.records if record.name == log.name} == {"a mistake"}
    assert log.getEffectiveLevel() == level


def test_what_is_on_no_hub_says_where_it_is():
    with pytest.raises(SlidebagError, match=r"ctranspath.*github\.com/Xiyue-Wang/TransPath.*--weights"):
        load_encoder(EncoderConfig(encoder="ctranspath"))
