"""The grid: the ordered tiles of one slide and how to read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .errors import ConfigError, ResolutionError
from .slide import Slide
from .tissue import TissueMask

_TOLERANCE = 0.02  # a slide scanned this much too coarse still counts as scanned at the asked mpp


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """How a slide is cut into tiles."""

    tile_px: int = field(default=224, metadata={"help": "tile side in pixels, as the encoder sees it"})
    tile_mpp: float = field(default=0.5, metadata={"help": "resolution of the patches in µm/px"})
    overlap_px: int = field(default=0, metadata={"help": "pixels that neighbouring tiles share"})
    min_tissue: float = field(default=0.25, metadata={"help": "smallest share of tissue in a kept tile"})
    allow_upsampling: bool = field(
        default=False, metadata={"help": "enlarge slides scanned coarser than --tile-mpp"}
    )

    def __post_init__(self) -> None:
        if self.tile_px < 1:
            raise ConfigError(f"tile_px is {self.tile_px}", hint="give 1 or more")
        if not 0.05 <= self.tile_mpp <= 50:
            raise ConfigError(f"tile_mpp is {self.tile_mpp:g} µm/px", hint="give 0.05 to 50")
        if not 0 <= self.overlap_px < self.tile_px:
            raise ConfigError(f"overlap_px is {self.overlap_px}", hint=f"give 0 to {self.tile_px - 1}")
        if not 0 <= self.min_tissue <= 1:
            raise ConfigError(f"min_tissue is {self.min_tissue:g}", hint="give a share from 0 to 1")


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one slide: places in level-0 pixels, and how to read each as a patch.

    `coords` int64 (N, 2): top-left corner (x, y) at level 0, row by row; `tissue_fraction` float32
    (N,). A tile spans `tile_px_level0` level-0 pixels (rounded; the exact size is `tile_px *
    tile_mpp / mpp`) and is read as `read_px` pixels of `level`, then resized to `tile_px`.
    """

    slide_id: str
    slide_path: str
    slide_fingerprint: str
    coords: np.ndarray
    tissue_fraction: np.ndarray
    mpp: float
    mpp_source: str
    size_level0_px: tuple[int, int]
    config: GridConfig
    level: int
    read_px: int
    tile_px_level0: int
    tissue_polygons: Mapping  # GeoJSON MultiPolygon in level-0 pixels

    def __len__(self) -> int:
        return len(self.coords)
