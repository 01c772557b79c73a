"""By what a step was computed: the command, the versions that matter, and the machine."""

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("slidebag", "torch", "timm", "openslide-python", "openslide-bin", "h5py", "scikit-image",
            "faiss-cpu", "pandas", "numpy", "safetensors", "opencv-python-headless")  # fmt: skip


def computed_by() -> dict[str, object]:
    """Return `command` as it was typed, `versions` by package, and `machine` with the GPU if one was used."""
    return {
        "command": _command(),
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def _command() -> str:
    name = Path(sys.argv[0]).name
    if name == "ipykernel_launcher.py":
        return "in Python"  # what a notebook's kernel was started with says nothing of it
    if name in ("", "-c", "__main__.py"):  # python itself, or a package by python -m
        return shlex.join(["python", *sys.orig_argv[1:]])
    return shlex.join([name, *sys.argv[1:]])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _machine() -> str:
    told = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    torch = sys.modules.get("torch")  # a step that did without it did not use a GPU
    if torch is not None and torch.cuda.is_initialized():
        told += f", {torch.cuda.get_device_name(0)}"
    return told
