import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

pytest.importorskip("openvino")

from features import find_encoder
from features.engine import UnsuitedError
from features.openvino_engine import OpenVinoEngine, drawn_patches, openvino_precisions
from tiling import ConfigError

CARD = find_encoder("timm:test_vit").card


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("test_vit", num_classes=0, dynamic_img_size=True)


def test_drawn_patches_are_always_the_same_and_show_tissue():
    drawn = drawn_patches((64, 96), 20)
    assert drawn.shape == (20, 64, 96, 3)
    np.testing.assert_array_equal(drawn, drawn_patches.__wrapped__((64, 96), 20))
    assert (drawn.std(axis=(1, 2, 3)) > 5).mean() > 0.7


@pytest.mark.slow
@pytest.mark.skipif("int8" not in openvino_precisions(), reason="no int8 here")
def test_int8_is_the_same_twice():
    first, again = (OpenVinoEngine(network(), CARD, "int8").run(drawn_patches((160, 160), 4)) for _ in "12")
    np.testing.assert_array_equal(first[0], again[0])


class Odd(torch.nn.Module):
    def forward(self, images):
        return torch.linalg.eigvals(images.mean(dim=1)[:, :4, :4]).real


def test_what_cannot_be_converted_is_unsuited():
    with pytest.raises(UnsuitedError, match="convert"):
        OpenVinoEngine(Odd(), CARD, "float32")


class Branching(torch.nn.Module):
    """Tracing follows one branch: for any other batch it is another network."""

    def forward(self, images):
        means = images.mean(dim=(2, 3))
        return -means if len(images) == 2 else means


def test_what_is_converted_wrongly_is_unsuited():
    with pytest.raises(UnsuitedError, match="not torch's"):
        OpenVinoEngine(Branching(), CARD, "float32")


def test_a_precision_that_the_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr("features.openvino_engine.openvino_precisions", lambda: ("float32",))
    with pytest.raises(ConfigError, match=r"bfloat16 on this processor.*--engine torch.*float32"):
        OpenVinoEngine(network(), CARD, "bfloat16")


def test_a_size_of_patch_is_compiled_once_and_when_it_comes(monkeypatch):
    engine = OpenVinoEngine(network(), CARD, "float32")
    for side in (160, 96, 96, 160):
        engine.run(np.zeros((2, side, side, 3), np.uint8))
    assert sorted(engine._compiled) == [(96, 96), (160, 160)]


SIGNALLED = """
import gc, os, signal
import numpy as np
from features import EncoderConfig, load_encoder
encoder = load_encoder(EncoderConfig(encoder="timm:test_vit", weights=WEIGHTS, engine="openvino"))
for side in (160, 96):
    encoder.encode(np.zeros((1, side, side, 3), np.uint8))
del encoder
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""


def test_a_signal_after_an_engine_is_gone_is_handled(tmp_path):
    save_file(network().state_dict(), tmp_path / "weights.safetensors")
    code = SIGNALLED.replace("WEIGHTS", repr(str(tmp_path / "weights.safetensors")))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_nothing_is_reported_to_the_makers(monkeypatch):
    def report(*_args, **_options):
        raise AssertionError("reported")

    telemetry = pytest.importorskip("openvino_telemetry")
    for name in ("__init__", "init", "send_event", "start_session"):
        monkeypatch.setattr(telemetry.Telemetry, name, report)
    for precision in openvino_precisions():
        OpenVinoEngine(network(), CARD, precision)
    assert "nncf" in sys.modules or "int8" not in openvino_precisions()
