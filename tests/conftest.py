"""Slides whose truth is known, made once a session, and the real data where a machine has them."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tiling import PhantomConfig, render_phantom, write_phantom_cohort, write_slide

if "PYTEST_XDIST_WORKER" in os.environ:  # several workers, each with a thread a core, would starve each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass(frozen=True)
class PhantomSlide:
    """A phantom on disk; `tissue` and `tumour` are bool (H, W) at level 0."""

    path: Path
    tissue: np.ndarray
    tumour: np.ndarray
    mpp: float
    size_px: tuple[int, int]


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> PhantomSlide:
    """A slide of 1600 x 1203 px at 0.5 µm/px, a quarter of whose tissue is tumour."""
    config = PhantomConfig(size_px=(1600, 1203), tumour_share=0.25, seed=7)
    drawn = render_phantom(config)
    path = tmp_path_factory.mktemp("phantom") / "phantom.svs"
    write_slide(path, drawn.pixels, mpp=drawn.mpp)
    return PhantomSlide(path, drawn.tissue, drawn.tumour, drawn.mpp, config.size_px)


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory) -> Path:
    """A folder of 8 labelled slides of 1200 x 1000 px at 0.5 µm/px: do not write into it."""
    folder = tmp_path_factory.mktemp("cohort")
    write_phantom_cohort(folder, 8, seed=3, size_px=(1200, 1000))
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real slides, tiles and weights; skips where there are none."""
    if "SLIDEBAG_DATA" not in os.environ:
        pytest.skip("SLIDEBAG_DATA is not set")
    return Path(os.environ["SLIDEBAG_DATA"])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the slides be damaged for longer than the suite has time for."""
    parser.addoption(
        "--damage-s", type=float, default=2.0, help="seconds that each kind of slide is damaged and read"
    )


@pytest.fixture(scope="session")
def damage_s(request) -> float:
    """Seconds that each kind of slide is damaged and read."""
    return request.config.getoption("--damage-s")
