"""The grid: the ordered tiles of one slide and how to read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import map_coordinates

from .errors import ConfigError, ResolutionError
from .files import fingerprint
from .slide import Slide
from .tissue import TissueConfig, TissueMask

_TOLERANCE = 0.02  # a slide scanned this much too coarse still counts as scanned at the asked mpp
_ROUNDING = 1e-9  # of a tile's share of tissue, that sums of fractions of pixels may be off


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
    exact_pixels: bool = field(
        default=False,
        metadata={"help": "decode every pixel even where the decoder could scale down for less"},
    )

    max_tiles: int = field(
        default=0,
        metadata={"help": "most tiles of a slide, drawn at random from those with tissue; 0 is all"},
    )
    tile_seed: int = field(default=0, metadata={"help": "seed of that draw"})

    def __post_init__(self) -> None:
        if self.tile_px < 1:
            raise ConfigError(f"tile_px is {self.tile_px}", hint="give 1 or more")
        if not 0.05 <= self.tile_mpp <= 50:
            raise ConfigError(f"tile_mpp is {self.tile_mpp:g} µm/px", hint="give 0.05 to 50")
        if not 0 <= self.overlap_px < self.tile_px:
            raise ConfigError(f"overlap_px is {self.overlap_px}", hint=f"give 0 to {self.tile_px - 1}")
        if not 0 <= self.min_tissue <= 1:
            raise ConfigError(f"min_tissue is {self.min_tissue:g}", hint="give a share from 0 to 1")
        if self.max_tiles < 0:
            raise ConfigError(f"max_tiles is {self.max_tiles}", hint="give 1 or more, or 0 for all")
        if self.tile_seed < 0:
            raise ConfigError(f"tile_seed is {self.tile_seed}", hint="give 0 or more")


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
    tissue_config: TissueConfig = field(default_factory=TissueConfig)
    origin: str = ""  # what else decided where the tiles lie: a user's regions, another tool's file

    def __len__(self) -> int:
        return len(self.coords)

    def __repr__(self) -> str:
        return (
            f"TileGrid({self.slide_id!r}, {len(self)} tiles of {self.config.tile_px} px at "
            f"{self.config.tile_mpp:g} µm/px, {self.tile_px_level0} px at level 0)"
        )

    @property
    def fingerprint(self) -> str:
        """What the grid depends on, in 12 hex digits; equal to `grid_fingerprint` of its slide."""
        return _fingerprint(self.slide_fingerprint, self.mpp, self.config, self.tissue_config, self.origin)


def grid_fingerprint(
    slide: Slide, config: GridConfig, tissue_config: TissueConfig, *, origin: str = ""
) -> str:
    """Return the fingerprint that the slide's grid will have, without making it.

    Raises:
        ResolutionError: the slide states no resolution.
    """
    return _fingerprint(slide.fingerprint, slide.mpp, config, tissue_config, origin)


def _fingerprint(
    slide_fingerprint: str, mpp: float, config: GridConfig, tissue_config: TissueConfig, origin: str
) -> str:
    if not config.max_tiles:
        config = replace(config, tile_seed=0)  # without a draw its seed changes nothing
    # grids that need no origin are called as they were before there was one
    return fingerprint(slide_fingerprint, mpp, config, tissue_config, *filter(None, [origin]))


def tile_slide(
    slide: Slide,
    mask: TissueMask,
    config: GridConfig | None = None,
    tissue_config: TissueConfig | None = None,
    *,
    origin: str = "",
) -> TileGrid:
    """Cut a slide into a grid of whole tiles that hold enough tissue, row by row.

    Tile k of a row begins at round(k * exact step), so tiles do not drift however wide the slide. Where
    there are more than `max_tiles`, that many are drawn; they stay in order, so a file is read forward.
    `tissue_config` is what `mask` was found with, and `origin` what changed it since (a fingerprint of
    the user's regions); both are kept with the grid.

    Raises:
        ResolutionError: the slide states no resolution or is coarser than asked for.
    """
    config = config or GridConfig()
    wanted = config.tile_mpp / slide.mpp
    level, read_px = plan_read(slide, config)
    side = config.tile_px * wanted  # exact, in level-0 pixels
    step = (config.tile_px - config.overlap_px) * wanted
    xs, ys = (_corners(size, side, step) for size in slide.size_px)
    fraction = tissue_fraction(mask, xs, ys, side)
    rows, columns = np.nonzero((fraction >= config.min_tissue - _ROUNDING) & (fraction > _ROUNDING))
    drawn = _draw(len(rows), config)
    rows, columns = rows[drawn], columns[drawn]
    return TileGrid(
        slide_id=slide.id,
        slide_path=str(slide.path),
        slide_fingerprint=slide.fingerprint,
        coords=np.stack([xs[columns], ys[rows]], axis=1),
        tissue_fraction=fraction[rows, columns].astype(np.float32),
        mpp=slide.mpp,
        mpp_source=slide.resolution.source,
        size_level0_px=slide.size_px,
        config=config,
        level=level,
        read_px=read_px,
        tile_px_level0=round(side),
        tissue_polygons=mask.polygons(),
        tissue_config=tissue_config or TissueConfig(),
        origin=origin,
    )


def plan_read(slide: Slide, config: GridConfig) -> tuple[int, int]:
    """Return the coarsest level that is fine enough, and a tile's side there in pixels.

    Raises:
        ResolutionError: the slide states no resolution or is coarser than asked for.
    """
    wanted = config.tile_mpp / slide.mpp
    if wanted < 1 - _TOLERANCE and not config.allow_upsampling:
        raise ResolutionError(
            f"{slide.id}: scanned at {slide.mpp:g} µm/px, too coarse for the asked {config.tile_mpp:g} µm/px",
            hint=f"ask for --tile-mpp {slide.mpp:g} or more, or allow enlarging with --allow-upsampling",
        )
    fine_enough = [i for i, d in enumerate(slide.downsamples) if d <= wanted * (1 + _TOLERANCE)]
    level = max(fine_enough, default=0)
    return level, max(1, round(config.tile_px * wanted / slide.downsamples[level]))


def _corners(size_px: int, side: float, step: float) -> np.ndarray:
    """Where the whole tiles along one direction begin, int64; what counts are their rounded pixels."""
    corners = np.rint(np.arange(int(size_px // step) + 1) * step).astype(np.int64)
    return corners[corners + round(side) <= size_px]


def _draw(n_tiles: int, config: GridConfig) -> np.ndarray:
    """Which of `n_tiles` are kept, int64, ascending; with the same seed, fewer are among more."""
    if not config.max_tiles or n_tiles <= config.max_tiles:
        return np.arange(n_tiles)
    order = np.random.default_rng(config.tile_seed).permutation(n_tiles)
    return np.sort(order[: config.max_tiles])


def tissue_fraction(mask: TissueMask, xs: np.ndarray, ys: np.ndarray, side: float) -> np.ndarray:
    """Return the share of tissue in each tile, float64 (len(ys), len(xs)), exact where pixels are cut.

    The integral of a mask is bilinear inside a mask pixel: interpolating it linearly is no estimate.
    """
    height, width = mask.mask.shape
    integral = np.zeros((height + 1, width + 1))
    integral[1:, 1:] = mask.mask.cumsum(0).cumsum(1)
    scale_x, scale_y = width / mask.size_level0_px[0], height / mask.size_level0_px[1]

    def at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        places = np.meshgrid(y * scale_y, x * scale_x, indexing="ij")
        return map_coordinates(integral, places, order=1, mode="nearest")

    tissue = at(xs + side, ys + side) - at(xs, ys + side) - at(xs + side, ys) + at(xs, ys)
    return np.clip(tissue / (side * scale_x * side * scale_y), 0, 1)
