"""Pixels and places: slides, tissue, grids, patches, and scores painted back on the slide."""

from .array_reader import ArraySlide, OmeTiffSlide, OmeZarrSlide, PictureSlide
from .errors import ConfigError, FormatError, ResolutionError, SlidebagError, SlideError
from .files import (
    fingerprint,
    open_checked,
    read_array,
    read_header,
    replacing,
    stored_fingerprint,
    sweep,
    write_header,
)
from .geojson import geojson_fingerprint, write_geojson
from .grid import GridConfig, TileGrid, grid_fingerprint, tile_slide
from .grid_file import grid_attributes, load_grid, save_grid, write_coords
from .heatmap import Heatmap, paint
from .jpeg_reader import JpegTiffSlide
from .legend import Legend
from .openslide_reader import OpenSlideSlide
from .overlay import OverlayConfig, overlay, overlay_fingerprint, write_overlay
from .patches import Patches, read_patches
from .phantom import Phantom, PhantomConfig, render_phantom
from .phantom_cohort import write_phantom_cohort
from .pyramid import write_slide
from .quality import TissueQuality, measure_quality
from .registry import Registry
from .slide import READERS, Resolution, Slide, Unsuited, open_slide
from .tissue import TissueConfig, TissueMask, segment_tissue

__all__ = [
    "READERS",
    "ArraySlide",
    "ConfigError",
    "FormatError",
    "GridConfig",
    "Heatmap",
    "JpegTiffSlide",
    "Legend",
    "OmeTiffSlide",
    "OmeZarrSlide",
    "OpenSlideSlide",
    "OverlayConfig",
    "Patches",
    "Phantom",
    "PhantomConfig",
    "PictureSlide",
    "Registry",
    "Resolution",
    "ResolutionError",
    "Slide",
    "SlideError",
    "SlidebagError",
    "TileGrid",
    "TissueConfig",
    "TissueMask",
    "TissueQuality",
    "Unsuited",
    "fingerprint",
    "geojson_fingerprint",
    "grid_attributes",
    "grid_fingerprint",
    "load_grid",
    "measure_quality",
    "open_checked",
    "open_slide",
    "overlay",
    "overlay_fingerprint",
    "paint",
    "read_array",
    "read_header",
    "read_patches",
    "render_phantom",
    "replacing",
    "save_grid",
    "segment_tissue",
    "stored_fingerprint",
    "sweep",
    "tile_slide",
    "write_coords",
    "write_geojson",
    "write_header",
    "write_overlay",
    "write_phantom_cohort",
    "write_slide",
]
