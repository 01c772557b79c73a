import json
import sys

import numpy as np
import pytest
from onnx_graphs import write_colour

from features import EncoderConfig, find_encoder, load_encoder
from tiling import ConfigError, SlidebagError


def test_without_onnxruntime_the_way_out_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SlidebagError, match=r"onnx:.*a\.onnx needs onnxruntime.*slidebag\[onnx\]"):
        find_encoder(f"onnx:{tmp_path / 'a.onnx'}")


@pytest.fixture
def colour(tmp_path):
    """Write the graph of `write_colour` and return the encoder's name."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return lambda factor=1.0, name="a.onnx", **told: f"onnx:{write_colour(tmp_path / name, factor, **told)}"


def patches():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_it_computes_what_was_exported_with_the_norm_beside_it(colour, tmp_path, batch):
    name = colour(2.0, batch=batch)
    told = {"input_px": 32, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 1]}
    (tmp_path / "a.json").write_text(json.dumps(told))
    encoder = load_encoder(EncoderConfig(encoder=name))
    assert (encoder.card.dim, encoder.card.input_px, encoder.engine) == (3, 32, "onnxruntime")
    expected = 2 * (patches().mean(axis=(1, 2)) / 255 - (0.1, 0.2, 0.3)) / (0.5, 0.5, 1)
    found = encoder.encode(patches())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.encode(patches()[:0]).shape == (0, 3)


def test_its_fingerprint_follows_the_file(colour):
    one, two, again = (load_encoder(EncoderConfig(encoder=colour(f))) for f in (1.0, 2.0, 1.0))
    assert one.fingerprint == again.fingerprint != two.fingerprint
    assert len(one.weights_digest) == 64


def test_numbers_in_a_file_beside_a_large_graph_are_part_of_its_fingerprint(colour, tmp_path):
    def load(factor):
        return load_encoder(EncoderConfig(encoder=colour(factor, numbers_in="numbers.bin")))

    one, graph = load(1.0), (tmp_path / "a.onnx").read_bytes()
    two = load(2.0)
    assert (tmp_path / "a.onnx").read_bytes() == graph
    np.testing.assert_allclose(two.encode(patches()), 2 * one.encode(patches()), rtol=1e-6)
    assert one.fingerprint != two.fingerprint
    assert load(1.0).fingerprint == one.fingerprint


def test_what_is_no_encoder_is_refused(colour, tmp_path):
    colour()
    (tmp_path / "text.onnx").write_text("hello")
    for name, match in [
        (f"onnx:{tmp_path / 'text.onnx'}", "is no ONNX file"),
        (f"onnx:{tmp_path / 'none.onnx'}", "no such file"),
        (colour(kept=1, name="map.onnx"), r"yields \(1, 3, 1, 1\), wanted \(n, dim\)"),
    ]:
        with pytest.raises(ConfigError, match=match):
            find_encoder(name)


@pytest.mark.parametrize("wrong", [{"engine": "torch"}, {"precision": "bfloat16"}])
def test_it_runs_as_it_was_exported(colour, wrong):
    with pytest.raises(ConfigError, match="leave out"):
        load_encoder(EncoderConfig(encoder=colour(), **wrong))


def test_weights_beside_it_are_refused(colour, tmp_path):
    with pytest.raises(ConfigError, match="leave out --weights"):
        load_encoder(EncoderConfig(encoder=colour(), weights=str(tmp_path / "a.onnx")))
