"""Pixels and places: slides, tissue, grids, patches, and scores painted back on the slide."""

from .errors import ConfigError, FormatError, ResolutionError, SlidebagError, SlideError
from .files import (
    fingerprint,
    open_checked,
    replacing,
    stored_fingerprint,
    sweep,
    write_header,
)
from .grid import GridConfig, TileGrid, grid_fingerprint, tile_slide
from .grid_file import grid_attributes, load_grid, save_grid, write_coords
from .openslide_reader import OpenSlideSlide
from .patches import Patches, read_patches
from .registry import Registry
from .slide import READERS, Resolution, Slide, open_slide
from .tissue import TissueConfig, TissueMask, segment_tissue

__all__ = [
    "READERS",
    "ConfigError",
    "FormatError",
    "GridConfig",
    "OpenSlideSlide",
    "Patches",
    "Registry",
    "Resolution",
    "ResolutionError",
    "Slide",
    "SlideError",
    "SlidebagError",
    "TileGrid",
    "TissueConfig",
    "TissueMask",
    "fingerprint",
    "grid_attributes",
    "grid_fingerprint",
    "load_grid",
    "open_checked",
    "open_slide",
    "read_patches",
    "replacing",
    "save_grid",
    "segment_tissue",
    "stored_fingerprint",
    "sweep",
    "tile_slide",
    "write_coords",
    "write_header",
]
