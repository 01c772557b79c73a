"""The verb `doctor`: what is installed, on which devices, and whether the packages are really ours."""

import importlib
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import openslide

from features import ENCODERS
from tiling import READERS

from .learner import LEARNERS
from .machine import PACKAGES


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    topic: str
    name: str
    told: str
    is_well: bool = True


def examine() -> list[Finding]:
    """Return what was found, the good and the bad."""
    return [
        Finding("system", "python", platform.python_version()),
        Finding("system", platform.system(), f"{platform.release()}, {platform.machine()}"),
        *(_package(name) for name in PACKAGES),
        *_devices(),
        Finding("readers", ", ".join(READERS), f"OpenSlide {openslide.__library_version__}"),
        Finding("encoders", f"{len(list(ENCODERS))} by name", "and timm:<name>"),
        Finding("learners", ", ".join(LEARNERS), ""),
        *(_origin(name) for name in ("tiling", "features", "mil")),
    ]


def _package(name: str) -> Finding:
    try:
        return Finding("packages", name, version(name))
    except PackageNotFoundError:
        return Finding("packages", name, "not installed; install slidebag again", is_well=False)


def _devices() -> list[Finding]:
    import torch  # slow to import, and the command line imports this module

    found = [Finding("devices", "cpu", f"{torch.get_num_threads()} threads")]
    for k in range(torch.cuda.device_count()):
        gigabytes = torch.cuda.get_device_properties(k).total_memory / 2**30
        found.append(Finding("devices", f"cuda:{k}", f"{torch.cuda.get_device_name(k)}, {gigabytes:.0f} GiB"))
    if torch.backends.mps.is_available():
        found.append(Finding("devices", "mps", "Apple GPU"))
    return found


def _origin(name: str) -> Finding:
    """Whether the import package of so plain a name is the one that slidebag installed."""
    here = Path(str(importlib.import_module(name).__file__)).resolve().parent
    ours = Path(__file__).resolve().parent.parent / name
    direct = distribution("slidebag").read_text("direct_url.json") or ""
    way = "editable" if '"editable": true' in direct else "installed"
    if here == ours:
        return Finding("origin", name, f"{here} ({way})")
    return Finding(
        "origin", name, f"{here} is another package of this name; use a fresh environment", is_well=False
    )
