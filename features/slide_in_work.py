"""A slide on its way from pixels to bags, and what passes between the threads that work on it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tiling import Patches, Slide, TileGrid

from .bag import BagConfig
from .bag_writer import BagWriter
from .encoder import Encoder
from .stain import StainNormaliser


@dataclass(frozen=True)
class ExtractJob:
    """A slide to be encoded.

    `open` yields the slide and its grid. `bags` says where the bag of each encoder goes, by the
    encoder's number; what is not named there is not computed.
    """

    slide_id: str
    open: Callable[[], AbstractContextManager[tuple[Slide, TileGrid]]]
    bags: Mapping[int, Path]


@dataclass(frozen=True)
class Extracted:
    """What became of a slide: its bags are whole, or there is an `error` and none of them was changed."""

    slide_id: str
    n_tiles: int
    n_unreadable: int
    error: Exception | None = None


class SlideInWork:
    """A slide between being opened and its bags being whole; the writing thread alone changes its bags."""

    def __init__(self, job: ExtractJob) -> None:
        self.job = job
        self.has_failed = False
        self._writers: dict[int, BagWriter] = {}
        self._is_read, self._n_missing, self._n_tiles = False, 0, 0

    def begin(
        self,
        slide: Slide,
        grid: TileGrid,
        encoders: Sequence[Encoder],
        config: BagConfig,
        stain: StainNormaliser | None,
    ) -> None:
        """Open a bag for each encoder that is asked for.

        Raises:
            ConfigError: the grid's patches are not what an encoder wants.
        """
        for number in self.job.bags:
            encoders[number].card.check_patch(grid.config.tile_px, grid.config.tile_mpp)
        self._n_missing = self._n_tiles = len(grid)
        for number, path in self.job.bags.items():
            origin = {"reader": slide.reader} | ({"stain_numbers": stain.numbers} if stain else {})
            self._writers[number] = BagWriter(path, grid, encoders[number], config, origin)

    def write(self, rows: "Rows") -> None:
        """Put some rows into the bags."""
        for number, vectors in rows.vectors.items():
            self._writers[number].add(rows.start, rows.unreadable, vectors)
            self._writers[number].add_patches(rows.start, rows.streams)
        self._n_missing -= len(rows.unreadable)

    def end_reading(self) -> None:
        """Say that all patches are on their way."""
        self._is_read = True

    @property
    def is_complete(self) -> bool:
        """Whether all rows are written."""
        return self._is_read and not self._n_missing

    def finish(self) -> Extracted:
        """Give all bags their places."""
        n_unreadable = [writer.finish() for writer in self._writers.values()]
        return Extracted(self.job.slide_id, self._n_tiles, max(n_unreadable, default=0))

    def fail(self, error: Exception) -> Extracted:
        """Leave nothing of the bags; later rows of the slide are dropped."""
        self.abort()
        return Extracted(self.job.slide_id, self._n_tiles, 0, error)

    def abort(self) -> None:
        """Leave nothing of the bags that are not whole."""
        self.has_failed = True
        for writer in self._writers.values():
            writer.abort()


@dataclass(frozen=True)
class Chunk:
    """Some patches of one slide; a JPEG and augmented views of each where they are asked for.

    `views` has one array a view, each as `patches.pixels`.
    """

    slide: SlideInWork
    patches: Patches
    streams: list[bytes] = field(default_factory=list)
    views: list[np.ndarray] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.patches)


@dataclass(frozen=True)
class Rows:
    """What a chunk became: by encoder number, arrays (n, ...) by dataset name."""

    slide: SlideInWork
    start: int
    unreadable: np.ndarray
    vectors: dict[int, dict[str, np.ndarray]]
    streams: list[bytes]


@dataclass(frozen=True)
class Ended:
    """Nothing more of a slide is to come, for the `error` if there is one."""

    slide: SlideInWork
    error: Exception | None = None
