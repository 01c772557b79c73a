"""OpenVINO on a CPU: the network compiled for each size of patch, normalising included."""

import contextlib
import copy
import importlib.util
import io
import logging
import os
import warnings
from functools import cache
from typing import Any

import numpy as np
import openvino
import torch
from openvino.frontend import (
    FrontEndManager,
    GeneralFailure,
    NotImplementedFailure,
    OpConversionFailure,
    OpValidationFailure,
)
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.preprocess import PrePostProcessor

from tiling import ConfigError, PhantomConfig, render_phantom

from .encoder import EncoderCard
from .engine import Engine, UnsuitedError

# torch's tracer raises RuntimeErrors; OpenVINO's have no base of their own
_FAILURES = (RuntimeError, GeneralFailure, NotImplementedFailure, OpConversionFailure, OpValidationFailure)
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_ABILITIES = {"BF16": "bfloat16", "FP16": "float16", "INT8": "int8"}
_BATCH = 32
_N_CALIBRATION = 24
_SMOOTHING = 0.5  # how much of the range of activations is moved into the weights
# a transformer's beginning, where ranges differ most between slides
_KEPT_IN_FLOATS = [r".*patch_embed\..*", r".*blocks\.0\..*"]
_LEAST_COSINE = 0.95  # to torch's own float32; far below any precision, far above another network


class OpenVinoEngine(Engine):
    """OpenVINO, on as many threads as torch would take."""

    name = "openvino"
    batch = _BATCH

    def __init__(self, network: torch.nn.Module, card: EncoderCard, precision: str) -> None:
        self.precision = _choose_precision(precision)
        self._network = network.eval().requires_grad_(requires_grad=False)
        self._card = card
        self._compiled: dict[tuple[int, int], openvino.CompiledModel] = {}
        self._compile((card.input_px, card.input_px))  # now, so that what cannot be computed is known

    def _run(self, patches: np.ndarray) -> list[np.ndarray]:
        compiled = self._compile(patches.shape[1:3])
        found = []
        for start in range(0, len(patches), self.batch):
            told = compiled([np.ascontiguousarray(patches[start : start + self.batch])])
            found.append([told[output] for output in compiled.outputs])
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _compile(self, size_px: tuple[int, int]) -> openvino.CompiledModel:
        if size_px not in self._compiled:
            network = _sized(self._network, size_px)
            model = _convert(network, self._card, size_px)
            if self.precision == "int8":
                model = _quantise(model, size_px)
            compiled = _core().compile_model(model, "CPU", _options(self.precision))
            _compare(compiled, network, self._card, size_px)
            self._compiled[size_px] = compiled
        return self._compiled[size_px]


@cache
def _core() -> openvino.Core:
    """Return the one core of the process, never let go.

    When its plugin goes, the stack that it set for signal handlers is unmapped and stays set: the next
    signal with a handler, be it Ctrl-C or the end of a child, would end the process (OpenVINO 2026.4).
    """
    return openvino.Core()


@cache
def openvino_precisions() -> tuple[str, ...]:
    """Return the precisions that OpenVINO computes on this processor without emulating them."""
    able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = ["float32", *(name for ability, name in _ABILITIES.items() if ability in able)]
    if importlib.util.find_spec("nncf") is None and "int8" in found:
        found.remove("int8")
    return tuple(found)


def _choose_precision(asked: str) -> str:
    able = openvino_precisions()
    if asked == "auto":
        return "bfloat16" if "bfloat16" in able else "float32"
    if asked not in able:
        raise ConfigError(
            f"OpenVINO does not compute {asked} on this processor",
            hint=f"use --engine torch, or choose --precision from {', '.join(able)}",
        )
    return asked


def _options(precision: str) -> dict[str, Any]:
    # what int8 leaves is computed in the best that there is
    floats = _choose_precision("auto") if precision == "int8" else precision
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[floats],
        "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),  # which heeds OMP_NUM_THREADS and the affinity
        "ENABLE_CPU_PINNING": False,  # reading slides has a right to the cores too
    }


def _sized(network: torch.nn.Module, size_px: tuple[int, int]) -> torch.nn.Module:
    """Return the network for one size of patch.

    Where the position embedding fits itself to the patch, torch fits it here: OpenVINO's bicubic
    resampling is another.
    """
    own = copy.deepcopy(network)
    for module in own.modules():
        if getattr(module, "dynamic_img_size", False):
            set_input_size: Any = module.set_input_size
            set_input_size(img_size=size_px)
            break
    return own


def _convert(network: torch.nn.Module, card: EncoderCard, size_px: tuple[int, int]) -> openvino.Model:
    """Return the network as a model of uint8 patches (n, H, W, 3).

    By way of the front end itself: `openvino.convert_model` reports its use to the makers.

    Raises:
        UnsuitedError: OpenVINO does not know all its operations.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: sizes become constants, which is what we want
        try:
            decoder = TorchScriptPythonDecoder(network, example_input=torch.zeros(2, 3, *size_px))
            front_end = FrontEndManager().load_by_framework("pytorch")
            model = front_end.convert(front_end.load(decoder))
            model.reshape([-1, 3, *size_px])
        except _FAILURES as error:
            raise UnsuitedError(
                f"encoder {card.name} cannot be converted for OpenVINO ({str(error).splitlines()[-1]})",
                hint="use --engine torch, and no int8",
            ) from error
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    normalise = steps.input().preprocess().convert_element_type(openvino.Type.f32)
    normalise.mean([255 * value for value in card.mean]).scale([255 * value for value in card.std])
    return steps.build()


def _compare(
    compiled: openvino.CompiledModel, network: torch.nn.Module, card: EncoderCard, size_px: tuple[int, int]
) -> None:
    """Raise UnsuitedError if what was compiled is another network than torch's.

    An operation that is converted wrongly gives wrong features, and nothing else would tell.
    """
    patches = drawn_patches(size_px, 3)
    mean, std = torch.tensor(card.mean), torch.tensor(card.std)
    with torch.inference_mode():
        found = network(((torch.from_numpy(patches) / 255 - mean) / std).permute(0, 3, 1, 2))
    wanted = (found[0] if isinstance(found, tuple) else found).numpy().ravel()
    given = compiled([patches])[0].ravel()
    cosine = float(wanted @ given / (np.linalg.norm(wanted) * np.linalg.norm(given) + 1e-30))
    if not cosine >= _LEAST_COSINE:
        raise UnsuitedError(
            f"encoder {card.name}: OpenVINO's features are not torch's (cosine {cosine:.3f})",
            hint="use --engine torch, and no int8",
        )


def _quantise(model: openvino.Model, size_px: tuple[int, int]) -> openvino.Model:
    """Return the model with weights and activations of its matrix products in int8.

    The ranges are those of drawn patches, the same everywhere: what is quantised depends on the
    weights alone, not on whose slides come first.
    """
    os.environ.setdefault("NNCF_CI", "1")  # read on import: nothing is reported to the makers
    import nncf

    nncf.set_log_level(logging.ERROR)  # it tells of each layer left out
    patches = drawn_patches(size_px, _N_CALIBRATION)
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        return nncf.quantize(
            model,
            nncf.Dataset([patch[None] for patch in patches]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=_N_CALIBRATION,
            ignored_scope=nncf.IgnoredScope(patterns=_KEPT_IN_FLOATS, validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_SMOOTHING)
            ),
        )


@cache
def drawn_patches(size_px: tuple[int, int], n: int) -> np.ndarray:
    """Return uint8 patches (n, H, W, 3) cut from drawn slides with tissue and tumour; always the same."""
    height, width = size_px
    patches: list[np.ndarray] = []
    seed = 0
    while len(patches) < n:
        config = PhantomConfig(
            size_px=(4 * width, 4 * height), tissue_share=0.7, tumour_share=0.4, has_pen=False, seed=seed
        )
        pixels = render_phantom(config).pixels
        for y in range(0, 4 * height, height):
            patches += [pixels[y : y + height, x : x + width] for x in range(0, 4 * width, width)]
        seed += 1
    return np.stack(patches[:n])
