"""A slide: a pyramid of images of one glass slide, whatever file holds it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from .errors import ResolutionError, SlidebagError, SlideError
from .jpeg_tiles import JpegTiles
from .registry import Registry

PLAUSIBLE_MPP = (0.05, 20.0)  # an electron microscope begins below, a flatbed scanner above
_WAYS_OUT = "set it in the file's own metadata, in the column 'mpp' of the slide table, or with --mpp"
_MOST_SIDE_PX = 4_000_000  # a metre at 0.25 µm/px: a damaged header, or a hostile one
_MOST_THUMBNAIL_PX = 200_000_000
_BLOCK_PX = 4096  # blocks that a level without smaller ones is read in
_TRIED_PX = 256
_PROBE_BYTES = 65536  # head and tail that go into a slide's identity


class Unsuited(SlidebagError):
    """A file that is no case for a reader; the next one may take it."""


class Refused(SlideError):
    """A file that a reader understands and cannot show; the next one would show a part and not say so."""


@dataclass(frozen=True)
class Resolution:
    """Microns per level-0 pixel, and where that number was found."""

    mpp: float
    source: str


class Slide(ABC):
    """A pyramid of images of one glass slide; places are (x, y) in level-0 pixels.

    A reader sets `id`, `path`, `size_px`, `level_sizes_px` and `properties`, and fills in `_read`.
    """

    id: str
    path: Path
    reader: str
    preference: int  # readers are asked in this order
    suffixes: frozenset[str] | None = None  # of the files that the reader is asked for; None is all
    scales: tuple[int, ...] = (1,)  # a level can be read at 1/scale for less
    passed_over: tuple[str, ...] = ()  # why readers of lower preference did not take the file
    level_sizes_px: tuple[tuple[int, int], ...]  # (width, height), level 0 first
    properties: Mapping[str, str]

    def __init__(self, path: Path, *, id: str, mpp: float | None, fallback_mpp: float | None) -> None:
        self.path, self.id = path, id
        self._given_mpp, self._fallback_mpp = mpp, fallback_mpp

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of level 0."""
        return self.level_sizes_px[0]

    @property
    def shown_from_px(self) -> tuple[int, int]:
        """(x, y) at level 0 of the corner of what QuPath shows of the slide, from which it counts."""
        return 0, 0

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level; 1.0 first."""
        width, height = self.size_px
        return tuple((width / w + height / h) / 2 for w, h in self.level_sizes_px)

    @cached_property
    def resolution(self) -> Resolution:
        """The slide's exact resolution and its source.

        The slide table's value comes first, then the file's own, then `--mpp` for slides that state
        none worth believing.

        Raises:
            ResolutionError: none is stated, or only one outside 0.05 to 20 µm/px, or the table's is.
        """
        low, high = PLAUSIBLE_MPP
        if self._given_mpp is not None and not low <= self._given_mpp <= high:
            raise ResolutionError(
                f"{self.id}: the slide table says {self._given_mpp:g} µm/px, outside {low:g} to {high:g}",
                hint="correct or empty the column 'mpp' of the slide table",
            )
        found = ""
        for mpp, source in self._stated_resolutions():
            if low <= mpp <= high:
                return Resolution(float(mpp), source)
            found = found or f"resolution {mpp:.5g} µm/px ({source}) is outside {low:g} to {high:g}"
        raise ResolutionError(f"{self.id}: {found or 'states no resolution (mpp)'}", hint=_WAYS_OUT)

    def _stated_resolutions(self) -> list[tuple[float, str]]:
        given = [] if self._given_mpp is None else [(self._given_mpp, "slide table")]
        fallback = [] if self._fallback_mpp is None else [(self._fallback_mpp, "--mpp")]
        return [*given, *self._file_resolutions(), *fallback]

    @property
    def mpp(self) -> float:
        """Microns per level-0 pixel; raises ResolutionError where `resolution` does."""
        return self.resolution.mpp

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the file when it was first asked for: see `identify`."""
        return self.identify()

    def identify(self) -> str:
        """Return the identity of the file as it is now: its size, time of change, a hash of head and tail."""
        stat = self.path.stat()
        digest = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode())
        with self.path.open("rb") as file:
            digest.update(file.read(_PROBE_BYTES))
            file.seek(max(0, stat.st_size - _PROBE_BYTES))
            digest.update(file.read(_PROBE_BYTES))
        return digest.hexdigest()[:16]

    def read(self, x: int, y: int, level: int, size_px: tuple[int, int]) -> np.ndarray:
        """Return (H, W, 3) uint8 pixels of `level`, `size_px` (width, height) there, from (x, y) at level 0.

        What the scanner left transparent, and what lies beyond the border, is white (black where the
        file says that its background is black).

        Raises:
            SlideError: the pixels cannot be read.
            ValueError: there is no such level, or the size is not positive.
        """
        if not 0 <= level < len(self.level_sizes_px) or min(size_px) <= 0:
            raise ValueError(f"{self.id}: no region of {size_px} px at level {level} to read")
        return self._read(x, y, level, size_px)

    def read_batch(self, corners: np.ndarray, level: int, out: np.ndarray, *, scale: int = 1) -> np.ndarray:
        """Read a region from each corner into `out`; return which could not be read, bool (n,).

        Args:
            corners: int64 (n, 2), (x, y) at level 0.
            level: the level that is read.
            out: uint8 (n, h, w, 3), filled; what could not be read holds anything.
            scale: one of `scales`; the regions are h x scale by w x scale pixels of the level.
        """
        failed = np.zeros(len(corners), bool)
        for row, (x, y) in enumerate(corners.tolist()):
            try:
                out[row] = self.read(x, y, level, (out.shape[2] * scale, out.shape[1] * scale))
            except SlideError:
                failed[row] = True
        return failed

    def try_reading(self) -> None:
        """Read a small region from the middle of the lowest level; raises SlideError if it cannot be read."""
        level, down = len(self.level_sizes_px) - 1, self.downsamples[-1]
        width, height = self.level_sizes_px[level]
        size = min(width, _TRIED_PX), min(height, _TRIED_PX)
        self.read(int((width - size[0]) / 2 * down), int((height - size[1]) / 2 * down), level, size)

    def expect(self, corners: np.ndarray, level: int, size_px: tuple[int, int], *, scale: int = 1) -> None:
        """Be told the regions of the next `read_batch`: they may be fetched from the file meanwhile."""
        return

    def compressed_tile(self, x: int, y: int, level: int, side_px: int) -> bytes | None:
        """Return the JPEG that the file holds of just this square, None where there is none."""
        return None

    def jpeg_tiles(self, level: int) -> JpegTiles | None:
        """Return the JPEG tiles that a level of the file is made of, None where it is of something else."""
        return None

    def thumbnail(self, mpp: float) -> np.ndarray:
        """Return the whole slide about as fine as `mpp` or finer, (H, W, 3) uint8.

        It comes from the lowest adequate level, which is averaged down block by block where it is
        much finer than asked for, so that a slide without a pyramid takes no more memory than another.
        """
        wanted = max(mpp / self.mpp, 1.0) * 1.01
        level = max(i for i, d in enumerate(self.downsamples) if d <= wanted)
        shrink = int(wanted / self.downsamples[level])
        width, height = self.level_sizes_px[level]
        if shrink == 1 or min(width, height) < shrink:
            self._empty_thumbnail(width, height)
            return self.read(0, 0, level, (width, height))
        out = self._empty_thumbnail(round(width / shrink), round(height / shrink))
        rows, columns = (
            _edges(n, side, _BLOCK_PX // shrink)
            for n, side in zip(out.shape[:2], (height, width), strict=True)
        )
        for (top, bottom), (y, until_y) in rows:
            for (left, right), (x, until_x) in columns:
                corner = [round(v * self.downsamples[level]) for v in (x, y)]
                block = self.read(corner[0], corner[1], level, (until_x - x, until_y - y))
                size = (right - left, bottom - top)
                out[top:bottom, left:right] = cv2.resize(block, size, interpolation=cv2.INTER_AREA)
        return out

    def _empty_thumbnail(self, width: int, height: int) -> np.ndarray:
        if width * height > _MOST_THUMBNAIL_PX:
            raise SlideError(
                f"{self.id}: a thumbnail would be {width} × {height} px; no level is small enough",
                hint="ask for a coarser one (--tissue-mpp), or correct the slide's resolution",
            )
        return np.empty((height, width, 3), np.uint8)

    @abstractmethod
    def _read(self, x: int, y: int, level: int, size_px: tuple[int, int]) -> np.ndarray: ...

    @abstractmethod
    def _file_resolutions(self) -> list[tuple[float, str]]:
        """(mpp, source) that the file states, the best first; empty if none."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        width, height = self.size_px
        return f"Slide({self.id!r}, {width} × {height} px, {len(self.level_sizes_px)} levels, {self.reader})"


def _edges(n: int, size_px: int, step: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Runs of up to `step` of `n` small pixels, each with the run of the `size_px` pixels that it shows."""
    starts = [*range(0, n, max(1, step)), n]
    places = [round(start * size_px / n) for start in starts]
    return list(zip(pairwise(starts), pairwise(places), strict=True))


READERS: Registry[type[Slide]] = Registry("reader")


def open_slide(
    path: Path | str,
    *,
    id: str | None = None,
    mpp: float | None = None,
    fallback_mpp: float | None = None,
) -> Slide:
    """Open a slide file for reading.

    Args:
        path: the file.
        id: its name in tables and results; the file's name without suffix if not given.
        mpp: resolution in µm/px that overrides the file's own (the slide table's column `mpp`).
        fallback_mpp: resolution in µm/px where the file states none in 0.05 to 20 (`--mpp`).

    Raises:
        SlideError: the file is not there or no reader opens it.
    """
    path = Path(path)
    if not path.exists():
        raise SlideError(f"{path}: no such file", hint="check the path in the slide table")
    passed_over: list[str] = []
    problems: list[SlideError] = []
    for reader in sorted((READERS[name] for name in READERS), key=lambda r: r.preference):
        if reader.suffixes is not None and path.suffix.lower() not in reader.suffixes:
            continue
        try:
            slide = reader(path, id=id or path.stem, mpp=mpp, fallback_mpp=fallback_mpp)
        except Unsuited as reason:
            passed_over.append(f"{reader.reader}: {reason.message}")
        except Refused:
            raise
        except SlideError as problem:
            passed_over.append(f"{reader.reader}: {problem.message}")
            problems.append(problem)
        else:
            slide.passed_over = tuple(passed_over)
            _refuse_absurd_size(slide)
            return slide
    if path.is_dir() and not any(path.suffix.lower() in (READERS[name].suffixes or ()) for name in READERS):
        raise SlideError(f"{path}: is a folder", hint="name the slide files in it")
    if problems:
        raise problems[0]
    raise SlideError(f"{path}: no reader takes it", hint="; ".join(passed_over) or "give a slide file")


def _refuse_absurd_size(slide: Slide) -> None:
    if not all(1 <= side <= _MOST_SIDE_PX for size in slide.level_sizes_px for side in size):
        slide.close()
        width, height = slide.size_px
        raise SlideError(
            f"{slide.id}: states {width} × {height} px, wanted 1 to {_MOST_SIDE_PX} a side",
            hint="copy the file again from its source; its header is damaged",
        )
