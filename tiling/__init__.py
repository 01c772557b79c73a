"""Pixels and places: slides, tissue, grids, patches, and scores painted back on the slide."""

from . import (  # noqa: F401  being imported files their formats in the registry
    exchange_atlaspatch,
    exchange_clam,
    exchange_slideflow,
    exchange_stamp,
    exchange_trident,
)
from .annotations import annotated_tiles, classified_regions, covered_share
from .array_reader import ArraySlide, OmeTiffSlide, PictureSlide
from .background import glass_colour
from .blended import write_blended
from .contact_sheet import CARD_PICTURE_PX, CARDS_A_SHEET, Card, contact_sheet
from .deep_zoom import DeepZoom
from .dicom_heatmap import dicom_fingerprint, write_dicom_heatmap
from .errors import ConfigError, FormatError, ResolutionError, SlidebagError, SlideError, WriteError
from .exchange import COORDS_FORMATS, CoordsFormat, Hdf5Format, Layout, export_grid, import_grid
from .exchange_slideflow import extractor_name, write_bags_config
from .files import (
    check_format,
    check_room,
    discard,
    fingerprint,
    format_attributes,
    open_checked,
    read_array,
    read_header,
    replacing,
    replacing_folder,
    stored_fingerprint,
    sweep,
    write_attribute,
    write_header,
)
from .geojson import geojson_fingerprint, write_geojson
from .grid import GridConfig, TileGrid, grid_fingerprint, tile_slide
from .grid_file import (
    grid_attributes,
    grid_from,
    load_grid,
    refuse_other_tiles,
    save_grid,
    write_coords,
)
from .grid_summary import GridSummary, load_summary, load_thumbnail
from .heatmap import Heatmap, exact_corners, paint, side_level0_px
from .hot_region_files import write_region_table, write_regions
from .hot_regions import HotRegion, hot_regions, region_tolerance_um
from .legend import Legend, heat_colours, probability_text
from .new_hdf5 import NewHdf5, replacing_hdf5
from .ome_heatmap import write_ome_heatmap
from .ome_metadata import ome_fingerprint
from .ome_zarr_reader import OmeZarrSlide
from .openslide_reader import OpenSlideSlide
from .overlay import OverlayConfig, overlay, slide_picture
from .patches import Patches, read_patches
from .phantom import Phantom, PhantomConfig, render_phantom
from .phantom_cohort import write_phantom_cohort
from .picture_file import picture_fingerprint, write_picture
from .pyramid import write_slide
from .qc_picture import qc_fingerprint, qc_picture, small_picture, write_qc_picture
from .quality import TissueQuality, measure_quality
from .regions import Regions, find_regions, keep_regions
from .registry import Registry
from .regrid import regrid
from .slide import PLAUSIBLE_MPP, READERS, Resolution, Slide, Unsuited, open_slide
from .smoothing import smooth
from .tiled_tiff_reader import TiledTiffSlide
from .tissue import TissueConfig, TissueMask, segment_tissue
from .wsidicom_reader import WsiDicomSlide
from .zarr_heatmap import write_zarr_heatmap, zarr_fingerprint

__all__ = [
    "CARDS_A_SHEET",
    "CARD_PICTURE_PX",
    "COORDS_FORMATS",
    "PLAUSIBLE_MPP",
    "READERS",
    "ArraySlide",
    "Card",
    "ConfigError",
    "CoordsFormat",
    "DeepZoom",
    "FormatError",
    "GridConfig",
    "GridSummary",
    "Hdf5Format",
    "Heatmap",
    "HotRegion",
    "Layout",
    "Legend",
    "NewHdf5",
    "OmeTiffSlide",
    "OmeZarrSlide",
    "OpenSlideSlide",
    "OverlayConfig",
    "Patches",
    "Phantom",
    "PhantomConfig",
    "PictureSlide",
    "Regions",
    "Registry",
    "Resolution",
    "ResolutionError",
    "Slide",
    "SlideError",
    "SlidebagError",
    "TileGrid",
    "TiledTiffSlide",
    "TissueConfig",
    "TissueMask",
    "TissueQuality",
    "Unsuited",
    "WriteError",
    "WsiDicomSlide",
    "annotated_tiles",
    "check_format",
    "check_room",
    "classified_regions",
    "contact_sheet",
    "covered_share",
    "dicom_fingerprint",
    "discard",
    "exact_corners",
    "export_grid",
    "extractor_name",
    "find_regions",
    "fingerprint",
    "format_attributes",
    "geojson_fingerprint",
    "glass_colour",
    "grid_attributes",
    "grid_fingerprint",
    "grid_from",
    "heat_colours",
    "hot_regions",
    "import_grid",
    "keep_regions",
    "load_grid",
    "load_summary",
    "load_thumbnail",
    "measure_quality",
    "ome_fingerprint",
    "open_checked",
    "open_slide",
    "overlay",
    "paint",
    "picture_fingerprint",
    "probability_text",
    "qc_fingerprint",
    "qc_picture",
    "read_array",
    "read_header",
    "read_patches",
    "refuse_other_tiles",
    "region_tolerance_um",
    "regrid",
    "render_phantom",
    "replacing",
    "replacing_folder",
    "replacing_hdf5",
    "save_grid",
    "segment_tissue",
    "side_level0_px",
    "slide_picture",
    "small_picture",
    "smooth",
    "stored_fingerprint",
    "sweep",
    "tile_slide",
    "write_attribute",
    "write_bags_config",
    "write_blended",
    "write_coords",
    "write_dicom_heatmap",
    "write_geojson",
    "write_header",
    "write_ome_heatmap",
    "write_phantom_cohort",
    "write_picture",
    "write_qc_picture",
    "write_region_table",
    "write_regions",
    "write_slide",
    "write_zarr_heatmap",
    "zarr_fingerprint",
]
