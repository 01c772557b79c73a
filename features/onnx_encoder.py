"""`onnx:<path>`: a network in an ONNX file, run by onnxruntime (`pip install "slidebag[onnx]"`)."""

from pathlib import Path
from typing import Any

import numpy as np

from tiling import ConfigError, SlidebagError, fingerprint

from .encoder import Encoder, EncoderCard, EncoderConfig, EncoderEntry
from .encoder_folder import file_sha256
from .exported import exported_card, refuse_weights


class OnnxEncoder(Encoder):
    """The first output of an ONNX graph whose one input is float32 images (n, 3, H, W)."""

    engine = "onnxruntime"

    def __init__(self, card: EncoderCard, session: Any, digest: str) -> None:
        self.card, self.weights_digest = card, digest
        self.fingerprint = fingerprint(card.name, card.mean, card.std, digest)
        self._session = session

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return float32 (n, dim) for uint8 patches (n, H, W, 3)."""
        if not len(patches):
            return np.zeros((0, self.card.dim), np.float32)
        images = (patches.astype(np.float32) / 255 - self.card.mean) / np.asarray(self.card.std)
        return run(self._session, images.transpose(0, 3, 1, 2).astype(np.float32))


def run(session: Any, images: np.ndarray) -> np.ndarray:
    """Return a session's first output, float32, for float32 images (n, 3, H, W); its batch may be fixed."""
    given = session.get_inputs()[0]
    step = given.shape[0] if isinstance(given.shape[0], int) else len(images)
    found = []
    for start in range(0, len(images), step):
        part = images[start : start + step]
        filled = np.concatenate([part, np.zeros((step - len(part), *part.shape[1:]), np.float32)])
        found.append(session.run(None, {given.name: filled})[0][: len(part)])
    return np.concatenate(found).astype(np.float32, copy=False)


def onnx_entry(path: str) -> EncoderEntry:
    """Return the entry of an ONNX file: its card is told by the JSON beside it, its size by a dry run.

    Raises:
        ConfigError: the file is absent, is no ONNX, or does not map images to vectors.
        SlidebagError: onnxruntime is not installed.
    """
    file = Path(path)
    session = _open(file, "cpu")
    card = exported_card(f"onnx:{path}", file, dim=1)
    found = _try(session, card, file)

    def load(card: EncoderCard, config: EncoderConfig, device: str) -> Encoder:
        refuse_weights(card, config)
        if config.engine != "auto" or config.precision not in ("auto", "float32"):
            raise ConfigError(
                f"encoder {card.name} runs on onnxruntime, in the precision it was exported in",
                hint="leave out --engine and --precision",
            )
        return OnnxEncoder(card, _open(file, device), onnx_sha256(file))

    return EncoderEntry(exported_card(card.name, file, dim=found.shape[1]), load)


def onnx_sha256(file: Path) -> str:
    """Return the SHA-256 of an ONNX file; of one with files of numbers beside it, of names and digests."""
    if file.suffix == ".ort":  # onnxruntime's own format, which has all numbers in the file
        return file_sha256(file)
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    numbers = onnx.load(str(file), load_external_data=False).graph.initializer
    beside = {ExternalDataInfo(each).location for each in numbers if uses_external_data(each)}
    if not beside:
        return file_sha256(file)
    return fingerprint({name: file_sha256(file.parent / name) for name in sorted({file.name, *beside})})


def _open(file: Path, device: str) -> Any:
    try:
        import onnx  # noqa: F401  pyright: ignore[reportUnusedImport]  onnx_sha256 needs it
        import onnxruntime  # pyright: ignore[reportMissingImports]  an extra
    except ImportError as error:
        raise SlidebagError(
            f"onnx:{file} needs onnxruntime and onnx, which are not both installed",
            hint='pip install "slidebag[onnx]"',
        ) from error
    if not file.is_file():
        raise ConfigError(f"{file}: no such file", hint="write onnx:<path of the file>")
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    missing = set(wanted) - set(onnxruntime.get_available_providers())
    if missing:
        raise ConfigError(
            f"this onnxruntime cannot use {device}", hint="install onnxruntime-gpu, or --device cpu"
        )
    try:
        return onnxruntime.InferenceSession(str(file), providers=[*wanted, "CPUExecutionProvider"])
    except Exception as error:  # what onnxruntime raises has no narrower base
        raise ConfigError(
            f"{file} is no ONNX file ({type(error).__name__})", hint="export the network again"
        ) from error


def _try(session: Any, card: EncoderCard, file: Path) -> np.ndarray:
    side = card.input_px
    try:
        found = run(session, np.zeros((1, 3, side, side), np.float32))
    except Exception as error:  # as above
        raise ConfigError(
            f"{file} takes no float32 images (1, 3, {side}, {side})",
            hint=f"say its input_px in {file.with_suffix('.json').name}",
        ) from error
    if found.ndim != 2:
        raise ConfigError(f"{file} yields {found.shape}, wanted (n, dim)", hint="export it with its pooling")
    return found
