import pytest
import torch

from features import find_encoder
from features.torch_engine import TorchEngine, computes_bfloat16, largest_batch
from tiling import ConfigError

CARD = find_encoder("timm:test_vit").card


@pytest.mark.parametrize(
    ("holds", "expected", "found"), [(999, 100, 64), (40, 100, 32), (0, 100, 1), (9, 0, 1)]
)
def test_the_largest_batch_is_found_by_trial(holds, expected, found):
    def compute(n):
        if n > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert largest_batch(compute, expected) == found


def test_a_fault_is_not_taken_for_too_little_memory():
    def compute(n):
        raise RuntimeError("no kernel image is available")

    with pytest.raises(RuntimeError, match="kernel"):
        largest_batch(compute, 8)


def test_only_what_is_multiplied_is_cast():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    TorchEngine(network, CARD, "bfloat16", device="cpu")
    assert network[0].weight.dtype == torch.bfloat16
    assert network[1].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("told", "is_native"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False, "avx2": True}, False),
    ],
)
def test_the_processor_is_asked(monkeypatch, told, is_native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert computes_bfloat16() is is_native


def test_a_torch_that_cannot_tell_is_taken_for_no(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_bfloat16()


@pytest.mark.parametrize(("has", "best"), [(True, "bfloat16"), (False, "float16")])
def test_cuda_takes_bfloat16_where_it_has_it(monkeypatch, has, best):
    from features.torch_engine import _choose_precision

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has)
    assert _choose_precision("auto", torch.device("cuda")) == best
    if not has:
        with pytest.raises(ConfigError, match=r"bfloat16 on cuda.*float32, float16"):
            _choose_precision("bfloat16", torch.device("cuda"))
