"""The verb `export-model`: the instance head of a model as an ONNX file, for tools without slidebag."""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tiling import ConfigError, replacing

from .fitted import Fitted

if TYPE_CHECKING:
    from torch import Tensor, nn


def export_model(model: Path, out: Path) -> tuple[str, ...]:
    """Write features -> tile margins and probabilities, standardiser and calibration included.

    The file takes `features` float32 (n, D) and gives `margins` (n, K), before calibration, and
    `probability` (n, T), as `predict` writes it. Returns the T classes of a tile.

    Raises:
        FormatError: there is no whole model in `model`.
        ConfigError: the learner has no instance head that could be exported, or the extra is not installed.
    """
    import torch  # slow to import

    if find_spec("onnx") is None:
        raise ConfigError("the package onnx is not installed", hint="pip install 'slidebag[onnx]'")

    fitted = Fitted.load(model)
    head = _calibrated(fitted)
    one = torch.zeros(2, fitted.learner.dim)
    with replacing(out) as temporary, warnings.catch_warnings():
        # the newer exporter wants a further package, for nothing that a few layers need
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            head, (one,), str(temporary), dynamo=False, opset_version=17,
            input_names=["features"], output_names=["margins", "probability"],
            dynamic_axes={name: {0: "tiles"} for name in ("features", "margins", "probability")},
        )  # fmt: skip
    return fitted.learner.classes.tile_names


def _calibrated(fitted: Fitted) -> "nn.Module":
    import torch
    from torch import nn

    lines = fitted.calibration.tiles
    n_margins = fitted.learner.classes.n_positive

    class Head(nn.Module):
        """The learner's head with the calibration behind it."""

        def __init__(self) -> None:
            super().__init__()
            self.margins = fitted.learner.instance_head()
            self.slopes = torch.tensor(lines.slopes if lines else (1.0,) * n_margins)
            self.offsets = torch.tensor(lines.offsets if lines else (0.0,) * n_margins)

        def forward(self, features: "Tensor") -> tuple["Tensor", "Tensor"]:
            margins = self.margins(features)
            calibrated = margins * self.slopes + self.offsets
            logits = torch.cat([torch.zeros_like(calibrated[:, :1]), calibrated], dim=1)
            return margins, torch.softmax(logits, dim=1)

    return Head().eval()
