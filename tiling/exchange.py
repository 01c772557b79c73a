"""Tile coordinates from and to other tools' HDF5 files; each tool's own layout is in exchange_<tool>.py."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import ConfigError, FormatError
from .grid import GridConfig, TileGrid, plan_read
from .new_hdf5 import replacing_hdf5
from .registry import Registry
from .slide import Slide

OWN_CONFIG = "slidebag_grid"  # ours alone: by it a grid comes back to the last digit of its tile_mpp


@dataclass(frozen=True)
class Layout:
    """What a tool's file says: corners int64 (N, 2) and the exact side of a tile in level-0 pixels.

    `tile_px` and `overlap_px` are in pixels of the patch that the encoder sees.
    """

    coords: np.ndarray
    tile_px: int
    side_level0_px: float
    overlap_px: int = 0


class CoordsFormat(ABC):
    """How one tool lays out the tiles of a slide; an ending is what follows the slide's name.

    `endings` are of the files that are read, those that surely hold sizes first; the first is written.
    """

    endings: tuple[str, ...] = (".h5",)
    has_empty_files: bool = True  # whether the tool writes a file for a slide without tiles

    @abstractmethod
    def load(self, path: Path, slide: Slide) -> tuple[Layout, Any]:
        """Return what a file says of a slide's tiles, and our own options in it if there are any.

        Raises FormatError if it is not in this layout.
        """

    @abstractmethod
    def load_corners(self, path: Path, mpp: float, side_level0_px: float) -> np.ndarray:
        """Return where tiles of a known side begin, int64 (N, 2), on a slide of `mpp` microns per pixel."""

    @abstractmethod
    def save(self, path: Path, grid: TileGrid) -> None:
        """Write the tiles of a grid to a file at `path`."""


class Hdf5Format(CoordsFormat):
    """A tool that writes one HDF5 file a slide."""

    @abstractmethod
    def read(self, file: h5py.File, slide: Slide) -> Layout:
        """Return what a file says of a slide's tiles; raises FormatError if it is not in this layout."""

    @abstractmethod
    def write(self, file: h5py.File, grid: TileGrid) -> None:
        """Write the tiles of a grid into an empty file."""

    def corners(self, file: h5py.File, mpp: float) -> np.ndarray:
        """Return where the tiles begin, int64 (N, 2), on a slide of `mpp` microns per pixel."""
        return read_rows(file, 2).astype(np.int64)

    def load(self, path: Path, slide: Slide) -> tuple[Layout, Any]:
        """Return the layout, and our own options where we wrote the file."""
        with _opened(path) as file:
            return self.read(file, slide), file.attrs.get(OWN_CONFIG)

    def load_corners(self, path: Path, mpp: float, side_level0_px: float) -> np.ndarray:
        """Return where the tiles begin."""
        with _opened(path) as file:
            return self.corners(file, mpp)

    def save(self, path: Path, grid: TileGrid) -> None:
        """Write the tiles, and our own options."""
        with replacing_hdf5(path) as file:
            self.fill(file, grid)

    def fill(self, file: h5py.File, grid: TileGrid) -> None:
        """Write the tiles, and our own options, into an empty file."""
        self.write(file, grid)
        file.attrs[OWN_CONFIG] = json.dumps(asdict(grid.config))


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise FormatError(
            f"{path}: not a readable HDF5 file ({error})", hint="make it again with the tool that wrote it"
        ) from error


COORDS_FORMATS: Registry[CoordsFormat] = Registry("format")


def import_grid(
    path: Path, slide: Slide, format: str, *, tile_px: int | None = None, tile_mpp: float | None = None
) -> TileGrid:
    """Read the tiles of a slide from another tool's file, in the file's own order.

    What the file does not say is unknown: `tissue_fraction` is NaN and there are no tissue polygons.
    `tile_px` is the side of the patches, if not the file's own: the places stay, the resolution differs.
    With `tile_mpp` too, both sizes are those given, and the file need tell none.

    Raises:
        FormatError: the file is not in that layout, or is of another slide.
        ResolutionError: the slide states no resolution.
        ConfigError: there is no such format, or `tile_mpp` is given without `tile_px`.
    """
    chosen = COORDS_FORMATS[format]
    if tile_mpp is not None:
        if tile_px is None:
            raise ConfigError(f"the tiles are at {tile_mpp:g} µm/px, of no known size", hint="give --tile-px")
        side = tile_px * tile_mpp / slide.mpp
        layout, told = Layout(chosen.load_corners(path, slide.mpp, side), tile_px, side), None
    else:
        layout, told = chosen.load(path, slide)
    _check_inside(layout.coords, slide, path)
    if tile_px is not None and tile_mpp is None:
        overlap_px = round(layout.overlap_px * tile_px / max(layout.tile_px, 1))
        layout, told = replace(layout, tile_px=tile_px, overlap_px=overlap_px), None
    config = _config(layout, told, slide, path)
    level, read_px = plan_read(slide, config)
    return TileGrid(
        slide_id=slide.id,
        slide_path=str(slide.path),
        slide_fingerprint=slide.fingerprint,
        coords=layout.coords,
        tissue_fraction=np.full(len(layout.coords), np.nan, np.float32),
        mpp=slide.mpp,
        mpp_source=slide.resolution.source,
        size_level0_px=slide.size_px,
        config=config,
        level=level,
        read_px=read_px,
        tile_px_level0=round(layout.side_level0_px),
        tissue_polygons={"type": "MultiPolygon", "coordinates": []},
        # a later `tile` knows by it that these are not its own tiles, and replaces them
        origin=f"{format} {hashlib.sha256(layout.coords.tobytes()).hexdigest()[:12]}",
    )


def export_grid(grid: TileGrid, path: Path, format: str) -> bool:
    """Write the tiles of a grid as another tool writes them; False where it would write no file.

    Raises:
        ConfigError: there is no such format.
    """
    chosen = COORDS_FORMATS[format]
    if not len(grid) and not chosen.has_empty_files:
        return False
    chosen.save(path, grid)
    return True


def read_rows(file: h5py.File, n_columns: int) -> np.ndarray:
    """Return the dataset `coords` as it is, (N, n_columns); raises FormatError where it is not so."""
    coords = file.get("coords")
    if not isinstance(coords, h5py.Dataset):
        raise FormatError(
            f"{file.filename}: has no dataset 'coords'", hint="name the folder of coordinate files"
        )
    rows = coords[()]
    if rows.size == 0:
        return np.zeros((0, n_columns), rows.dtype)
    is_number = rows.dtype.kind in "iuf"
    if not is_number or rows.ndim != 2 or rows.shape[1] != n_columns or not np.isfinite(rows).all():
        raise FormatError(
            f"{file.filename}: coords are {rows.shape} {rows.dtype}, wanted finite (N, {n_columns})",
            hint="check --format: which tool wrote the file",
        )
    return rows


def number(attributes: Mapping[str, Any], name: str, path: str, *, default: float | None = None) -> float:
    """Return a numeric attribute; where it is absent or 'None', `default`, or FormatError without one."""
    value = attributes.get(name)
    told = value.decode() if isinstance(value, bytes) else value
    if told is None or (isinstance(told, str) and told == "None"):
        if default is not None:
            return default
        hint = "name the folder of coordinate files, and check --format: which tool wrote them"
        raise FormatError(f"{path}: has no attribute {name!r}", hint=hint)
    found = numbers(told, name, path)
    return float(np.mean(found))  # CLAM tells a downsample as (x, y)


def numbers(told: Any, name: str, path: str) -> np.ndarray:
    """Return an attribute's finite numbers, float64 (n,); raises FormatError where it holds none."""
    try:
        found = np.asarray(told, float).ravel()
    except (TypeError, ValueError):
        found = np.zeros(0)
    if not found.size or not np.isfinite(found).all():
        raise FormatError(f"{path}: attribute {name!r} is {told!r}", hint="check --format, and the file")
    return found


def check_size(told: Sequence[float] | np.ndarray, found: tuple[int, int], slide: Slide, path: str) -> None:
    """Raise FormatError where a file speaks of a slide of another size, (width, height) in pixels."""
    if tuple(map(round, told)) != tuple(found):
        size = " × ".join(f"{side:.0f}" for side in told)
        raise FormatError(
            f"{path}: made on {size} px, slide {slide.id} has {found[0]} × {found[1]}",
            hint="name the file of this slide, or the slide of this file",
        )


def _check_inside(coords: np.ndarray, slide: Slide, path: Path) -> None:
    # a tile may reach over the border, as other tools' do; where it begins may not
    outside = ((coords < 0) | (coords >= np.array(slide.size_px))).any(axis=1)
    if outside.any():
        x, y = coords[outside][0]
        width, height = slide.size_px
        raise FormatError(
            f"{path}: {int(outside.sum())} of {len(coords)} tiles lie outside the slide of "
            f"{width} × {height} px, the first at ({x}, {y})",
            hint="name the file of this slide, and check --format and --mpp",
        )


def _config(layout: Layout, told: Any, slide: Slide, path: Path) -> GridConfig:
    """The grid's options: those of our own export, else what follows from the sizes in the file."""
    side = layout.side_level0_px
    try:
        if told is not None:
            config = GridConfig(**json.loads(told))
            if round(config.tile_px * config.tile_mpp / slide.mpp) == round(side):
                return config
        return GridConfig(
            tile_px=layout.tile_px,
            tile_mpp=slide.mpp * side / layout.tile_px,
            overlap_px=layout.overlap_px,
            allow_upsampling=side < layout.tile_px,
        )
    except (ConfigError, TypeError, ValueError, ZeroDivisionError) as error:
        raise FormatError(
            f"{path}: tiles of {layout.tile_px} px on {side:g} level-0 px make no grid ({error})",
            hint="check --format: which tool wrote the file",
        ) from error
