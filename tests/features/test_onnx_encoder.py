import json
import sys

import numpy as np
import pytest

from features import EncoderConfig, find_encoder, load_encoder
from tiling import ConfigError, SlidebagError


def test_without_onnxruntime_the_way_out_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SlidebagError, match=r"onnx:.*a\.onnx needs onnxruntime.*slidebag\[onnx\]"):
        find_encoder(f"onnx:{tmp_path / 'a.onnx'}")


@pytest.fixture
def colour(tmp_path):
    """A graph that yields the mean of each channel, times a factor."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def write(factor=1.0, batch="n", kept=0, name="a.onnx"):
        node, tensor = onnx.helper.make_node, onnx.helper.make_tensor
        kind = onnx.TensorProto.FLOAT
        shape = [batch, 3, *(["h", "w"] if kept else [])] if kept else [batch, 3]
        graph = onnx.helper.make_graph(
            [
                node("ReduceMean", ["images", "axes"], ["mean"], keepdims=kept),
                node("Mul", ["mean", "factor"], ["features"]),
            ],
            "colour",
            [onnx.helper.make_tensor_value_info("images", kind, [batch, 3, "h", "w"])],
            [onnx.helper.make_tensor_value_info("features", kind, shape)],
            [
                tensor("axes", onnx.TensorProto.INT64, [2], [2, 3]),
                tensor("factor", kind, [1], [factor]),
            ],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, str(tmp_path / name))
        return f"onnx:{tmp_path / name}"

    return write


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
