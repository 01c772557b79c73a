"""What is searched for: a tile, a region of a slide, or a picture, as vectors of a run's encoder."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from features import TileIndex, find_devices, load_bag_configs, load_encoder
from mil.run_folder import Run
from tiling import (
    ConfigError,
    FormatError,
    Regions,
    TileGrid,
    TissueMask,
    keep_regions,
    load_grid,
    side_level0_px,
)

_MASK_STEPS = 8  # pixels of a region's mask along the side of a tile
_TOLERANCE = 0.02  # of a resolution, as for slides


@dataclass(frozen=True)
class TileQuery:
    """The tile of a slide that holds the point (x, y) in level-0 pixels."""

    slide_id: str
    x: int
    y: int


@dataclass(frozen=True)
class RegionQuery:
    """The tiles of a slide whose centres lie in a GeoJSON file's polygons, or in (x, y, width, height)."""

    slide_id: str
    region: Path | tuple[int, int, int, int]


@dataclass(frozen=True)
class ImageQuery:
    """A picture of the size of a patch, or of any size at `mpp` µm/px, of which the middle is taken."""

    path: Path
    mpp: float | None = None
    weights: str | None = None  # of the run's encoder, where it had local ones
    device: str = "cpu"


Query = TileQuery | RegionQuery | ImageQuery


@dataclass(frozen=True)
class Asked:
    """A query as the index takes it: vectors float32 (q, D), of length 1 for tiles, and what to call it.

    `positions` are its own tiles in the index, none of a picture; `patch` is a picture's, uint8 (H, W, 3).
    """

    vectors: np.ndarray
    positions: np.ndarray
    name: str
    stem: str  # of the files about it, below the slide's folder
    slide_id: str | None = None
    patch: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))

    @property
    def typical(self) -> int:
        """The position of the query's own tile that is nearest to the mean of them."""
        return int(self.positions[(self.vectors @ self.vectors.mean(axis=0)).argmax()])


def grid_of(run: Run, index: TileIndex, slide_id: str) -> TileGrid:
    """Return the grid of a slide in the index.

    Raises:
        FormatError: the slide was tiled anew since its features were made.
    """
    grid = load_grid(run.grid_path(slide_id))
    tiles = index.tiles[index.of_slides({slide_id})]
    if len(tiles) and (
        tiles[-1, 1] >= len(grid) or not np.array_equal(tiles[:, 2:], grid.coords[tiles[:, 1]])
    ):
        raise FormatError(
            f"{slide_id}: was tiled anew since its features were made",
            hint=f"run `slidebag extract {run.root} --encoder {index.encoder}`",
        )
    return grid


def ask(query: Query, run: Run, index: TileIndex) -> Asked:
    """Turn a query into vectors.

    Raises:
        ConfigError: there is no such slide, no tile there, or a picture that does not fit.
        FormatError: the region or the picture cannot be read.
    """
    if isinstance(query, ImageQuery):
        return _picture(query, run, index)
    if query.slide_id not in index.slide_ids:
        raise ConfigError(
            f"slide {query.slide_id!r} has no features of {index.encoder} in {run.root}",
            hint=f"see slides.csv; the run has {', '.join(index.slide_ids[:3])} and so on",
        )
    grid = grid_of(run, index, query.slide_id)
    if isinstance(query, TileQuery):
        rows, name, stem = _holding(grid, query.x, query.y), f"{query.x},{query.y}", f"{query.x}-{query.y}"
    elif isinstance(query.region, Path):
        rows, name, stem = _inside(grid, query.region), query.region.name, query.region.stem
    else:
        rows, name = _in_box(grid, query.region), ",".join(map(str, query.region))
        stem = name.replace(",", "-")
    positions = index.positions_of(query.slide_id, rows)
    if not len(positions):
        raise ConfigError(f"{query.slide_id}: no tile at {name} could be read", hint="ask for another place")
    title = f"{query.slide_id} {'at' if isinstance(query, TileQuery) else 'in'} {name}"
    return Asked(index.vectors(positions), positions, title, f"{query.slide_id}/{stem}", query.slide_id)


def _holding(grid: TileGrid, x: int, y: int) -> np.ndarray:
    """The row of the tile that holds a point; of several that overlap, whose centre is nearest."""
    side = side_level0_px(grid)
    off = np.abs(grid.coords + side / 2 - (x, y)).max(axis=1)
    if not len(off):
        raise ConfigError(f"{grid.slide_id}: has no tiles", hint="choose a slide with tissue")
    row = int(off.argmin())
    if off[row] > side / 2:
        near_x, near_y = np.rint(grid.coords[row] + side / 2).astype(int).tolist()
        raise ConfigError(
            f"{grid.slide_id}: no tile holds the point {x},{y}",
            hint=f"the nearest tile is at {near_x},{near_y}; see qc/{grid.slide_id}.png for all of them",
        )
    return np.array([row])


def _in_box(grid: TileGrid, box: tuple[int, int, int, int]) -> np.ndarray:
    x, y, width, height = box
    centres = grid.coords + side_level0_px(grid) / 2
    inside = np.all((centres >= (x, y)) & (centres < (x + width, y + height)), axis=1)
    return _some(grid, inside, ",".join(map(str, box)))


def _inside(grid: TileGrid, path: Path) -> np.ndarray:
    """The rows of the tiles whose centres lie in a GeoJSON's regions, as `tile --regions` reads them."""
    if not path.is_file():
        raise ConfigError(f"region {path}: no such file", hint="give a GeoJSON file, or x,y,width,height")
    step = side_level0_px(grid) / _MASK_STEPS
    width, height = (max(1, round(side / step)) for side in grid.size_level0_px)
    everywhere = TissueMask(
        np.ones((height, width), bool), np.zeros((0, 0, 3), np.uint8), grid.size_level0_px
    )
    kept = keep_regions(everywhere, Regions(grid.slide_id, (path,), "")).mask
    scale = np.array([width, height]) / grid.size_level0_px
    centres = ((grid.coords + side_level0_px(grid) / 2) * scale).astype(int)
    x, y = np.minimum(centres, [width - 1, height - 1]).T
    return _some(grid, kept[y, x], path.name)


def _some(grid: TileGrid, inside: np.ndarray, name: str) -> np.ndarray:
    if not inside.any():
        side = round(side_level0_px(grid))
        raise ConfigError(
            f"{grid.slide_id}: no tile's centre lies in the region {name}",
            hint=f"draw it larger (tiles are {side} px at level 0) and on tissue, or give a point with --at",
        )
    return np.flatnonzero(inside)


def _picture(query: ImageQuery, run: Run, index: TileIndex) -> Asked:
    slide_id = index.slide_ids[int(index.tiles[0, 0])]
    config, _ = load_bag_configs(run.features_path(index.encoder, slide_id))
    if config.stain != "none":
        raise ConfigError(
            f"image {query.path}: the run's slides were brought to one stain, which a picture cannot be",
            hint="ask by --slide and --at, or extract without --stain",
        )
    patch = _patch(query, load_grid(run.grid_path(slide_id)))
    encoder = load_encoder(replace(config, weights=query.weights), device=find_devices(query.device)[0])
    if encoder.fingerprint != index.encoder_fingerprint:
        raise ConfigError(
            f"encoder {index.encoder}: its weights are {encoder.fingerprint}, "
            f"the run's features are of {index.encoder_fingerprint}",
            hint="give the weights that they were made with by --weights",
        )
    vectors = encoder.encode(patch[None])
    return Asked(vectors, np.zeros(0, np.int64), query.path.name, f"image/{query.path.stem}", patch=patch)


def _patch(query: ImageQuery, grid: TileGrid) -> np.ndarray:
    """The picture as the encoder sees patches, uint8 (tile_px, tile_px, 3)."""
    side, mpp = grid.config.tile_px, grid.config.tile_mpp
    try:
        with Image.open(query.path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise FormatError(
            f"image {query.path}: cannot be read ({error})", hint="give a PNG or JPEG"
        ) from error
    height, width = pixels.shape[:2]
    if query.mpp is None:
        if (width, height) != (side, side):
            raise ConfigError(
                f"image {query.path}: {width} × {height} px, the run's patches are {side} × {side}",
                hint=f"cut it to that at {mpp:g} µm/px, or say its resolution by --image-mpp",
            )
        return pixels
    if not query.mpp > 0:
        raise ConfigError(f"image_mpp is {query.mpp:g} µm/px", hint="give a resolution above 0")
    scale = query.mpp / mpp
    size = round(width * scale), round(height * scale)
    if min(size) < side or scale > 1 + _TOLERANCE:
        raise ConfigError(
            f"image {query.path}: {width} × {height} px at {query.mpp:g} µm/px, "
            f"the run's patches are {side} × {side} at {mpp:g}",
            hint=f"give one of {side * mpp:g} µm or more, no coarser than {mpp:g} µm/px",
        )
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)[top : top + side, left : left + side]
