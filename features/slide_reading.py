"""From an open slide to the patches that encoders see, a chunk at a time."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tiling import Slide, SlideError, TileGrid, read_patches

from .bag import BagConfig
from .slide_in_work import Chunk, SlideInWork
from .stain import StainNormaliser
from .stored_patches import compress
from .views import augment, view_seeds

_CHUNK_BYTES = 64 << 20  # of pixels that pass from hand to hand at once


def read_chunks(
    work: SlideInWork,
    slide: Slide,
    grid: TileGrid,
    *,
    stain: StainNormaliser | None,
    config: BagConfig,
    batch: int,
) -> Iterator[Chunk]:
    """Yield the patches of a grid, at most `batch` at a time, in the colours of `stain` if there is one.

    `config` says whether a JPEG of each patch, as it was read, and augmented views of it go with it.
    """
    most = max(1, _CHUNK_BYTES // (grid.config.tile_px**2 * 3 * (1 + config.views)))
    for patches in read_patches(slide, grid, batch=min(batch, most)):
        streams = compress(slide, grid, patches) if config.save_patches else []
        if stain is not None:
            patches = replace(patches, pixels=stain(patches.pixels))
        rows = np.arange(patches.start, patches.start + len(patches))
        seeds = [view_seeds(grid.slide_fingerprint, rows, view) for view in range(config.views)]
        yield Chunk(work, patches, streams, [augment(patches.pixels, each) for each in seeds])


def refuse_other_file(slide: Slide, grid: TileGrid) -> None:
    """Raise SlideError where a slide is not the file that its grid is of, or is gone."""
    if not slide.path.exists():
        raise SlideError(f"{slide.id}: {slide.path} is gone", hint="bring the file back, and run this again")
    if slide.identify() != grid.slide_fingerprint:
        raise SlideError(
            f"{slide.id}: {slide.path} is not the file that was tiled, or it was changed since",
            hint="run `slidebag tile` again",
        )
