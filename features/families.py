"""Families of encoders behind a prefix; what a family needs is imported when one of it is asked for."""

from .encoder import PREFIXES, EncoderEntry


def _timm(name: str) -> EncoderEntry:
    from .timm_encoder import timm_entry

    return timm_entry(name)


def _torchscript(path: str) -> EncoderEntry:
    from .torchscript_encoder import torchscript_entry

    return torchscript_entry(path)


def _onnx(path: str) -> EncoderEntry:
    from .onnx_encoder import onnx_entry

    return onnx_entry(path)


PREFIXES |= {"timm": _timm, "torchscript": _torchscript, "onnx": _onnx}
