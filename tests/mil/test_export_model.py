"""An exported instance head says of tiles what `predict` does, to the accuracy of float32."""

import json

import numpy as np
import pytest

from features import EncoderConfig
from mil import LEARNERS, Bag, Classes, Learner, Preparation, export_model
from mil.bags import LoadedBag, SlideRows
from mil.calibration import Calibration, ClassSets, Lines
from mil.model import Centres, Novelty, Recipe
from mil.predictions import Fitted
from tiling import ConfigError, FormatError, GridConfig, TissueConfig, WriteError

QUICK = {"slidebag": {"members": 2, "witness_epochs": 2, "epochs": 2, "steps_per_epoch": 3, "queue": 64}}


@pytest.fixture(params=["mix", "slidebag"])
def fitted(request) -> Fitted:
    """A model of three classes and its calibration."""
    rng = np.random.default_rng(0)
    classes = Classes(("normal", "a", "b"), has_negative=True)
    bags = [Bag(f"{i}", (rng.normal(size=(20, 6)) * 9 + i % 3).astype(np.float32)) for i in range(12)]
    kind = LEARNERS[request.param]
    learner = kind(kind.config_class(**QUICK.get(request.param, {"epochs": 3})))
    learner.fit(bags, [i % 3 for i in range(12)], classes, seed=0)
    preparation = Preparation(GridConfig(), TissueConfig(), EncoderConfig(), "float32")
    calibration = Calibration(
        None, Lines((0.5, 1.5), (-1.0, 0.3)), ClassSets(0.9, (0.0, 0.0, 0.0), by_class=False), (4, 4, 4)
    )
    novelty = Novelty.of(Centres.of(bags, 0), np.zeros((0, 200)))
    return Fitted(learner, Recipe(preparation, "e", (), 0.5, "slide", "f"), calibration, novelty)


def test_onnx_equals_predict(fitted, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    fitted.save(tmp_path / "model")
    names = export_model(tmp_path / "model", tmp_path / "head.onnx")
    assert names == ("normal", "a", "b")
    session = runtime.InferenceSession(tmp_path / "head.onnx", providers=["CPUExecutionProvider"])
    features = (9 * np.random.default_rng(1).normal(size=(33, 6))).astype(np.float32)
    margins, probability = session.run(None, {"features": features})
    loaded = LoadedBag(Bag("x", features), "a", (SlideRows("x", np.ones(33, bool), "f"),), "e")
    np.testing.assert_allclose(probability, fitted.predict(loaded).tile_probability, atol=1e-5)
    raw = fitted.learner.predict(loaded.bag).tile_probability
    np.testing.assert_allclose(margins, np.log(raw[:, 1:] / raw[:, :1]), atol=1e-3)


def test_a_learner_without_a_head_and_a_folder_without_a_model_say_so(fitted, tmp_path, monkeypatch):
    with pytest.raises(FormatError):
        export_model(tmp_path, tmp_path / "head.onnx")
    fitted.save(tmp_path / "model")
    pytest.importorskip("onnx")
    monkeypatch.setattr(type(fitted.learner), "instance_head", Learner.instance_head)
    with pytest.raises(ConfigError, match="no instance head"):
        export_model(tmp_path / "model", tmp_path / "head.onnx")
    assert not (tmp_path / "head.onnx").exists()


def test_a_folder_in_the_place_of_the_file_is_told(fitted, tmp_path):
    pytest.importorskip("onnx")
    fitted.save(tmp_path / "model")
    (tmp_path / "slides").mkdir()
    with pytest.raises(WriteError, match=r"slides: cannot be written .*is a folder"):
        export_model(tmp_path / "model", tmp_path / "slides")


def test_the_saved_model_predicts_alike(fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = LoadedBag(
        Bag("x", np.ones((5, 6), np.float32)), "a", (SlideRows("x", np.ones(5, bool), "f"),), "e"
    )
    first, again = fitted.predict(loaded), Fitted.load(tmp_path).predict(loaded)
    assert np.array_equal(first.tile_probability, again.tile_probability)
    assert np.array_equal(first.tile_novelty, again.tile_novelty)
    assert json.loads((tmp_path / "calibration.json").read_text())["tiles"]["slopes"] == [0.5, 1.5]
