import warnings
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from features import EncoderConfig, find_encoder
from features.engine import Engine, UnsuitedError, is_out_of_memory, start_engine
from features.neural_encoder import NeuralEncoder
from tiling import ConfigError, SlidebagError

CARD = find_encoder("timm:test_vit").card
# int8's for noise, which is not what its ranges are made for
COSINES = {"float32": 0.999999, "bfloat16": 0.999, "float16": 0.999, "int8": 0.98}


def network(name="test_vit", **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=0, **options).eval()


def flexible():
    return network(dynamic_img_size=True)


def patches(n=5, side=160):
    return np.random.default_rng(n).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def by_hand(given, model):
    mean, std = torch.tensor(CARD.mean), torch.tensor(CARD.std)
    with torch.inference_mode():
        return model(((torch.from_numpy(given) / 255 - mean) / std).permute(0, 3, 1, 2)).numpy()


def start(engine="auto", precision="auto", device="cpu", model=None, card=CARD):
    return start_engine(model or flexible(), card, EncoderConfig(engine=engine, precision=precision), device)


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def known():
    """Every engine and precision of this machine."""
    openvino = pytest.importorskip("features.openvino_engine")
    return [("torch", "float32"), ("torch", "bfloat16")] + [
        ("openvino", precision) for precision in openvino.openvino_precisions()
    ]


@pytest.fixture(scope="module", params=known(), ids="-".join)
def engine(request):
    return start(*request.param)


def test_it_computes_what_torch_computes_in_float32(engine):
    for side in (160, 96):
        found = engine.run(patches(side=side))
        assert [(each.shape, each.dtype) for each in found] == [((5, 64), np.float32)]
        assert cosines(found[0], by_hand(patches(side=side), flexible())).min() > COSINES[engine.precision]


def test_a_row_depends_on_its_patch_alone(engine, monkeypatch):
    (whole,) = engine.run(patches())
    monkeypatch.setattr(engine, "batch", 2)  # 2 + 2 + 1
    (in_parts,) = engine.run(patches())
    (alone,) = engine.run(patches()[3:4])
    np.testing.assert_allclose(in_parts, whole, atol=1e-5 if engine.precision == "float32" else 2e-2)
    assert cosines(alone, whole[3:4]).min() > 0.9999


def test_patches_may_be_a_view(engine):
    wide = patches(side=192)
    view = wide[::2, 16:176, 16:176]
    np.testing.assert_array_equal(engine.run(view)[0], engine.run(view.copy())[0])


def test_a_cnn_runs_on_each_engine():
    model, card = network("test_resnet"), find_encoder("timm:test_resnet").card
    for name in ("torch", "openvino"):
        (found,) = start(name, "float32", model=network("test_resnet"), card=card).run(patches())
        np.testing.assert_allclose(found, by_hand(patches(), model), atol=1e-5)


class TwoOutputs(torch.nn.Module):
    """Features, and their tokens on a raster."""

    def __init__(self):
        super().__init__()
        self.body = flexible()

    def forward(self, images):
        tokens = self.body.forward_features(images)
        side = int((tokens.shape[1] - self.body.num_prefix_tokens) ** 0.5)
        raster = tokens[:, -side * side :].unflatten(1, (side, side))
        pooled = torch.nn.functional.adaptive_avg_pool2d(raster.permute(0, 3, 1, 2), 2)
        return tokens[:, 0], pooled.permute(0, 2, 3, 1)


def test_tokens_are_a_second_output():
    exact = start("torch", "float32", model=TwoOutputs()).run(patches())
    assert [each.shape for each in exact] == [(5, 64), (5, 2, 2, 64)]
    for name, precision in known():
        for wanted, found in zip(
            exact, start(name, precision, model=TwoOutputs()).run(patches()), strict=True
        ):
            assert found.shape == wanted.shape
            assert cosines(found.reshape(5, -1), wanted.reshape(5, -1)).min() > COSINES[precision]


def test_the_precision_changes_the_fingerprint_and_the_engine_does_not():
    def encoder(**asked):
        return NeuralEncoder(CARD, flexible(), EncoderConfig(**asked), device="cpu")

    exact = [encoder(engine=name, precision="float32") for name in ("torch", "openvino")]
    assert [each.engine for each in exact] == ["torch", "openvino"]
    assert exact[0].fingerprint == exact[1].fingerprint
    assert exact[0].fingerprint != encoder(engine="torch", precision="bfloat16").fingerprint


class TestAuto:
    def abilities(self, monkeypatch, *, openvino, torch_bfloat16):
        monkeypatch.setattr("features.openvino_engine.openvino_precisions", lambda: openvino)
        monkeypatch.setattr("features.torch_engine.computes_bfloat16", lambda: torch_bfloat16)

    def told(self, **asked):
        engine = start(**asked)
        return engine.name, engine.precision

    def test_it_is_openvino_in_what_the_processor_multiplies(self, monkeypatch):
        self.abilities(monkeypatch, openvino=("float32",), torch_bfloat16=False)
        assert self.told() == ("openvino", "float32")
        assert self.told(engine="torch") == ("torch", "float32")
        self.abilities(monkeypatch, openvino=("float32", "bfloat16"), torch_bfloat16=True)
        assert self.told() == ("openvino", "bfloat16")
        assert self.told(engine="torch") == ("torch", "bfloat16")

    def test_a_precision_that_openvino_lacks_is_torchs(self, monkeypatch):
        self.abilities(monkeypatch, openvino=("float32",), torch_bfloat16=False)
        assert self.told(precision="bfloat16") == ("torch", "bfloat16")

    def test_without_openvino_it_is_torch(self, monkeypatch):
        monkeypatch.setattr("features.engine.importlib.util.find_spec", lambda name: None)
        assert start().name == "torch"
        with pytest.raises(ConfigError, match=r"not installed.*slidebag\[fast\]"):
            start("openvino")
        with pytest.raises(ConfigError, match=r"torch does not compute int8.*slidebag\[fast\]"):
            start(precision="int8")

    def test_a_network_that_openvino_cannot_compute_is_torchs_and_that_is_said(self, monkeypatch):
        def fail(*_args):
            raise UnsuitedError("encoder x cannot be converted", hint="use --engine torch")

        monkeypatch.setattr("features.openvino_engine.OpenVinoEngine", fail)
        with pytest.warns(UserWarning, match="x cannot be converted; it is left to torch"):
            assert start().name == "torch"
        for asked in ({"engine": "openvino"}, {"precision": "int8"}):
            with pytest.raises(ConfigError, match=r"x cannot be converted.*--engine torch"):
                start(**asked)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"engine": "torch", "precision": "int8"}, "torch does not compute int8 on cpu.*float32, bfloat16"),
        ({"engine": "torch", "precision": "float16"}, "torch does not compute float16 on cpu"),
        ({"engine": "openvino", "device": "cuda"}, "openvino does not compute on cuda.*--engine torch"),
    ],
)
def test_what_does_not_go_together_is_refused(asked, told):
    with pytest.raises(ConfigError, match=told):
        start(**asked)


class Small(torch.nn.Module):
    """The mean colour; memory for only so many patches."""

    def __init__(self, holds, error):
        super().__init__()
        self.holds, self.error, self.tried = holds, error, []

    def forward(self, images):
        self.tried.append(len(images))
        if len(images) > self.holds:
            raise self.error
        return images.mean(dim=(2, 3))


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("Exception from src/inference: std::bad_alloc"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_where_memory_runs_out_the_batch_is_halved_and_stays_so(error):
    model = Small(5, error)
    engine = start("torch", "float32", model=model)
    given = patches(20, side=8)
    (found,) = engine.run(given)
    assert model.tried == [20, 10, 5, 5, 5, 5]
    np.testing.assert_allclose(found, by_hand(given, Small(99, None)), atol=1e-5)
    engine.run(given)
    assert model.tried[6:] == [5, 5, 5, 5]
    assert engine.batch == 5


def test_an_encoder_tells_its_smaller_batch():
    model = Small(3, MemoryError())
    encoder = NeuralEncoder(
        replace(CARD, dim=3), model, EncoderConfig(engine="torch", precision="float32"), device="cpu"
    )
    encoder.encode(patches(4, side=8))
    assert encoder.batch == 2


def test_no_memory_for_one_patch_is_an_error_that_says_so():
    engine = start("torch", "float32", model=Small(0, MemoryError()))
    with pytest.raises(SlidebagError, match=r"torch has no memory for one patch of 8 × 8 px.*smaller"):
        engine.run(patches(3, side=8))


def test_other_errors_are_not_taken_for_it():
    model = Small(0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="multiplied"):
        start("torch", "float32", model=model).run(patches(3, side=8))
    assert model.tried == [3]
    assert not is_out_of_memory(ValueError("no"))


def test_starting_changes_nothing_for_others():
    before = torch.get_float32_matmul_precision(), torch.get_num_threads(), list(warnings.filters)
    for name, precision in [("torch", "bfloat16"), ("openvino", "float32")]:
        start(name, precision).run(patches(1))
    assert (torch.get_float32_matmul_precision(), torch.get_num_threads(), list(warnings.filters)) == before


def test_an_engine_is_abstract():
    with pytest.raises(TypeError, match="_run"):
        Engine()
