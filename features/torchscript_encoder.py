"""`torchscript:<path>`: a network that somebody scripted or traced. Loading one runs the code in it."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tiling import ConfigError

from .encoder import Encoder, EncoderCard, EncoderConfig, EncoderEntry
from .encoder_folder import file_sha256
from .exported import exported_card, refuse_weights
from .neural_encoder import NeuralEncoder


class _Exported(torch.nn.Module):
    """A script within an ordinary module, which can do what engines ask of one."""

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.script = script

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.script(images)


def torchscript_entry(path: str) -> EncoderEntry:
    """Return the entry of a TorchScript file: its card is told by the JSON beside it, its size by a dry run.

    Raises:
        ConfigError: the file is absent, is no TorchScript, or does not map images to vectors.
    """
    file = Path(path)
    script = _read(file)
    card = exported_card(f"torchscript:{path}", file, dim=1)
    with torch.inference_mode():
        try:
            found = script(torch.zeros(1, 3, card.input_px, card.input_px))
        except RuntimeError as error:
            raise ConfigError(
                f"{file} takes no float images (1, 3, {card.input_px}, {card.input_px})",
                hint=f"say its input_px in {file.with_suffix('.json').name}",
            ) from error
    if not isinstance(found, torch.Tensor) or found.ndim != 2:
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ConfigError(f"{file} yields {shape}, wanted (n, dim)", hint="export it with its pooling")

    def load(card: EncoderCard, config: EncoderConfig, device: str) -> Encoder:
        refuse_weights(card, config)
        # what was traced may not bear another engine: one is taken only if it is asked for
        config = replace(config, engine="torch") if config.engine == "auto" else config
        digest = file_sha256(file)  # frozen ones have no parameters to digest
        return NeuralEncoder(card, _Exported(script), config, device=device, weights_digest=digest)

    return EncoderEntry(replace(card, dim=int(found.shape[1])), load)


def _read(file: Path) -> Any:
    if not file.is_file():
        raise ConfigError(f"{file}: no such file", hint="write torchscript:<path of the file>")
    try:
        with (
            warnings.catch_warnings()
        ):  # that torch would rather have another format is not the user's choice
            warnings.simplefilter("ignore", FutureWarning)
            return torch.jit.load(str(file), map_location="cpu").eval()
    except RuntimeError as error:
        raise ConfigError(f"{file} is no TorchScript file", hint="export it with torch.jit.save") from error
