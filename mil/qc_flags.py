"""Which slides of a cohort a person should look at first, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log

import numpy as np

from tiling import GridSummary, TissueQuality

from .batch import FAILED, NO_TILE, NO_TISSUE
from .run_folder import PENDING

TILED = "tiled"
INK, BLUR, PALE = "much ink", "out of focus", "weak stain"
_STRANGE_Z = 3.5  # the usual bound for robust z
_FEWEST = 5  # slides that show what is usual
_BLURRED_FOCUS, _AT_MPP = 0.03, (6.0, 10.0)  # no sharp tissue has less, seen at 8 µm/px
_MAD_TO_SD = 1.4826
_ORDER = {FAILED: 0, NO_TISSUE: 1, NO_TILE: 2, PENDING: 3}


@dataclass(frozen=True)
class SlideFacts:
    """What `tile` left of one slide; `summary` is None where there is no grid."""

    slide_id: str
    status: str
    message: str = ""
    summary: GridSummary | None = None


@dataclass(frozen=True)
class Flags:
    """Why a slide is suspicious, the worst reason first, and by how much (robust z)."""

    words: tuple[str, ...] = ()
    z: float = field(default=0.0)


@dataclass(frozen=True)
class _Check:
    """A figure whose outliers in one direction are suspicious; `least_spread` is usual anywhere."""

    word: str
    figure: Callable[[TissueQuality], float | None]
    sign: int
    least_spread: float


_CHECKS = (
    _Check(INK, lambda q: q.pen_fraction, 1, 0.002),
    # as logarithms, so that half is as far as double; 0 says that there was nothing to measure
    _Check(BLUR, lambda q: log(q.focus) if q.focus > 0 else None, -1, 0.15),
    _Check(PALE, lambda q: log(q.stain_strength) if q.stain_strength > 0 else None, -1, 0.15),
)


def find_flags(slides: Sequence[SlideFacts]) -> list[Flags]:
    """Return for each slide what is suspicious about it, judged against the others of the same background.

    An outlier is more than 3.5 robust standard deviations (from the median absolute deviation) from the
    median of at least 5 slides. Tissue without texture is out of focus in any cohort.
    """
    found: list[dict[str, float]] = [{} for _ in slides]
    for check in _CHECKS:
        for background in ("bright", "dark"):
            z = _z_scores(slides, check, background)
            for row in np.flatnonzero(z > _STRANGE_Z):
                found[row][check.word] = float(z[row])
    for row, slide in enumerate(slides):
        if _is_blurred(slide.summary) and slide.status == TILED:
            found[row].setdefault(BLUR, _STRANGE_Z)
    return [_flags(slide, words) for slide, words in zip(slides, found, strict=True)]


def by_suspicion(slides: Sequence[SlideFacts], flags: Sequence[Flags]) -> list[int]:
    """Return the rows of `slides`, those to be looked at first in front, the others in their own order."""

    def key(row: int) -> tuple[int, float]:
        flagged = len(_ORDER)
        rank = _ORDER.get(slides[row].status, flagged if flags[row].words else flagged + 1)
        return rank, -flags[row].z if rank == flagged else 0.0

    return sorted(range(len(slides)), key=key)


def _flags(slide: SlideFacts, words: dict[str, float]) -> Flags:
    worst = sorted(words, key=lambda word: -words[word])
    status = [slide.status] if slide.status in _ORDER else []
    return Flags((*status, *worst), max(words.values(), default=0.0))


def _z_scores(slides: Sequence[SlideFacts], check: _Check, background: str) -> np.ndarray:
    """How far each slide is on the suspicious side, float64 (n,); NaN where it cannot be judged."""
    values = np.full(len(slides), np.nan)
    for row, slide in enumerate(slides):
        quality = slide.summary.quality if slide.summary else None
        if quality and quality.background == background:
            value = check.figure(quality)
            values[row] = np.nan if value is None else value
    is_usual = np.array([slide.status == TILED for slide in slides], bool)
    known = values[~np.isnan(values) & is_usual]
    if len(known) < _FEWEST:
        return np.full(len(slides), np.nan)
    median = np.median(known)
    spread = max(_MAD_TO_SD * float(np.median(np.abs(known - median))), check.least_spread)
    return check.sign * (values - median) / spread


def _is_blurred(summary: GridSummary | None) -> bool:
    quality = summary.quality if summary else None
    if summary is None or quality is None or quality.background != "bright":
        return False
    is_comparable = _AT_MPP[0] <= max(summary.tissue_mpp, summary.mpp) <= _AT_MPP[1]
    return is_comparable and 0 < quality.focus < _BLURRED_FOCUS
