"""A folder of phantoms with slide labels and pixel truth: a cohort whose answer is known."""

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from .errors import ConfigError
from .files import replacing
from .phantom import PhantomConfig, render_phantom
from .pyramid import write_slide

TRUTH_SCALE = 8  # level-0 pixels per pixel of a truth mask
_TUMOUR_SHARES = (0.05, 0.35)
_SECOND_SLIDE = 0.25  # share of patients that have two slides


def write_phantom_cohort(
    folder: Path | str,
    n_slides: int,
    *,
    seed: int = 0,
    size_px: tuple[int, int] = (3000, 2400),
    mpp: float = 0.5,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a labelled cohort into `folder` and return the path of its slide table.

    Writes `slides/<name>.svs`; `slides.csv` with the columns slide, label ("normal" or "tumour", half
    each) and patient (some have two slides, of one label); `truth/<name>.png`, 8-bit, 255 on tumour,
    one pixel for 8 x 8 of level 0, over the whole slide.

    Args:
        folder: made if it is not there.
        n_slides: how many, at least 2.
        seed: another seed, another cohort.
        size_px: width and height of each slide.
        mpp: resolution in µm/px.
        report: called with (slides done, slides in all) after each slide.

    Raises:
        ConfigError: fewer than 2 slides, or a size or resolution that cannot be drawn.
    """
    if n_slides < 2:
        raise ConfigError(f"n_slides is {n_slides}", hint="give 2 or more, one of each label")
    folder, rng = Path(folder), np.random.default_rng(seed)
    labels = rng.permutation(["normal"] * (n_slides - n_slides // 2) + ["tumour"] * (n_slides // 2))
    patients = _patients(labels, rng)
    rows = []
    for i, (label, patient) in enumerate(zip(labels, patients, strict=True)):
        name = f"phantom-{i + 1:03d}"
        low, high = np.log(_TUMOUR_SHARES)
        config = PhantomConfig(
            size_px=size_px,
            mpp=mpp,
            tissue_share=float(rng.uniform(0.3, 0.5)),
            tumour_share=float(np.exp(rng.uniform(low, high))) if label == "tumour" else 0.0,
            seed=int(rng.integers(2**31)),
        )
        _write_phantom(folder, name, config)
        rows.append((name, str(label), patient))
        if report is not None:
            report(i + 1, n_slides)
    with replacing(folder / "slides.csv") as partial, partial.open("w", newline="") as file:
        csv.writer(file).writerows([("slide", "label", "patient"), *rows])
    return folder / "slides.csv"


def _write_phantom(folder: Path, name: str, config: PhantomConfig) -> None:
    phantom = render_phantom(config)
    width, height = (max(1, round(side / TRUTH_SCALE)) for side in config.size_px)
    tumour = cv2.resize(phantom.tumour.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
    mask = np.where(tumour > 127, 255, 0).astype(np.uint8)
    with replacing(folder / "truth" / f"{name}.png") as partial:
        partial.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    write_slide(folder / "slides" / f"{name}.svs", phantom.pixels, mpp=phantom.mpp)


def _patients(labels: np.ndarray, rng: np.random.Generator) -> list[str]:
    """A patient for each slide, in the slides' order; some have two slides, of one label."""
    patient = np.full(len(labels), -1)
    n_patients = 0
    for label in np.unique(labels):
        waiting = list(np.flatnonzero(labels == label))
        while waiting:
            n = 2 if len(waiting) > 1 and rng.random() < _SECOND_SLIDE else 1
            patient[waiting[:n]], waiting = n_patients, waiting[n:]
            n_patients += 1
    names = rng.permutation(n_patients) + 1  # in an order that says nothing about the label
    return [f"patient-{names[p]:03d}" for p in patient]
