"""The same places at another resolution: tiles whose centres are those of a grid."""

from dataclasses import replace

import numpy as np

from .drawn import fill_rings
from .grid import TileGrid, plan_read, tissue_fraction
from .slide import Slide
from .tissue import TissueMask


def regrid(grid: TileGrid, slide: Slide, *, tile_mpp: float, tile_px: int | None = None) -> TileGrid:
    """Return the tiles at `tile_mpp` µm/px that have the centres of `grid`'s, row for row.

    All tiles move by one and the same whole number of level-0 pixels, so centres agree within half a
    pixel however wide the slide, and going back brings the first places back. Tiles that reach over the
    slide's border stay; what lies beyond it is background when they are read, and no tissue.
    `tile_px` is the side of the patches, if not that of `grid`.

    Raises:
        ValueError: `grid` is of another slide, or of another resolution of it.
        ResolutionError: the slide is coarser than asked for.
        ConfigError: no grid can have such tiles.
    """
    if (slide.fingerprint, slide.mpp) != (grid.slide_fingerprint, grid.mpp):
        told = f"{grid.slide_id} {grid.slide_fingerprint} at {grid.mpp:g} µm/px"
        raise ValueError(f"{slide.id}: {slide.fingerprint} at {slide.mpp:g} µm/px, but the grid is of {told}")
    old, px = grid.config, tile_px or grid.config.tile_px
    step_px = (old.tile_px - old.overlap_px) * old.tile_mpp / tile_mpp  # in pixels of the new patches
    # finer tiles on the same centres leave gaps, which no overlap can tell
    overlap_px = min(max(0, round(px - step_px)), px - 1)
    config = replace(old, tile_px=px, tile_mpp=tile_mpp, overlap_px=overlap_px)
    level, read_px = plan_read(slide, config)
    before, side = (c.tile_px * c.tile_mpp / grid.mpp for c in (old, config))
    # `round` treats both signs alike, which rounding each corner would not
    coords = grid.coords + round((before - side) / 2)
    return replace(
        grid,
        coords=coords,
        tissue_fraction=_fractions(grid, coords, side),
        config=config,
        level=level,
        read_px=read_px,
        tile_px_level0=round(side),
        origin=f"centres {grid.fingerprint}",
    )


def _fractions(grid: TileGrid, coords: np.ndarray, side: float) -> np.ndarray:
    """Share of tissue in each tile, float32 (N,); NaN where it was not known before."""
    if not len(coords) or np.isnan(grid.tissue_fraction).any():
        return grid.tissue_fraction.copy()
    (xs, columns), (ys, rows) = (np.unique(c, return_inverse=True) for c in coords.T)
    return tissue_fraction(_mask(grid), xs, ys, side)[rows, columns].astype(np.float32)


def _mask(grid: TileGrid) -> TissueMask:
    """The mask that the grid's outlines were drawn around, at the resolution it had."""
    scale = min(1.0, grid.mpp / grid.tissue_config.tissue_mpp)
    size = [max(1, round(side * scale)) for side in grid.size_level0_px]
    mask = np.zeros(size[::-1], bool)
    for polygon in grid.tissue_polygons["coordinates"]:
        fill_rings(mask, [np.array(ring) * size / np.array(grid.size_level0_px) for ring in polygon])
    return TissueMask(mask, np.zeros((0, 0, 3), np.uint8), grid.size_level0_px)
