"""Pictures of single tiles: out of the bag where it keeps patches, else read from the slide."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from features import load_patches
from tiling import FormatError, Slide, SlideError, TileGrid, open_slide, read_patches

from .cohort import CohortSlide
from .run_folder import Run

TILE_PICTURE_PX = (224, 224)


def tile_pictures(
    run: Run, encoder: str, slide: CohortSlide, grid: TileGrid, rows: Sequence[int]
) -> list[Image.Image] | list[str]:
    """Return the patches at some rows of a slide's grid, ascending, or for each why it cannot be read."""
    try:
        patches = load_patches(run.features_path(encoder, slide.slide_id), rows)
    except FormatError:  # it keeps none
        try:
            with open_slide(slide.path, id=slide.slide_id, mpp=grid.mpp) as opened:
                return slide_pictures(opened, grid, rows)
        except SlideError as error:
            return [error.message] * len(rows)
    return [as_picture(patch) for patch in patches]


def slide_pictures(slide: Slide, grid: TileGrid, rows: Sequence[int]) -> list[Image.Image]:
    """Return the patches at some rows of a slide's grid, ascending, read from the slide.

    Raises:
        SlideError: the slide cannot be read.
    """
    some = replace(grid, coords=grid.coords[rows], tissue_fraction=grid.tissue_fraction[rows])
    return [as_picture(patch) for patches in read_patches(slide, some) for patch in patches.pixels]


def as_picture(patch: np.ndarray) -> Image.Image:
    """Return a patch, uint8 (H, W, 3), as a picture of 224 x 224 px."""
    return Image.fromarray(patch).resize(TILE_PICTURE_PX, Image.Resampling.LANCZOS)
