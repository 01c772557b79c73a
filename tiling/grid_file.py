"""A grid as an HDF5 file (docs/formats.md): readable by tools that read CLAM's or TRIDENT's coordinates."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from .errors import FormatError
from .files import damage_told, open_checked, read_array, read_header, write_attribute, write_header
from .grid import GridConfig, TileGrid
from .grid_summary import quality_attributes
from .new_hdf5 import replacing_hdf5
from .quality import TissueQuality
from .tissue import TissueConfig

_THUMBNAIL_PX = 1024
_WHAT_ROWS_ARE_OF = ("slide_fingerprint", "mpp", "tile_mpp", "tile_px")


def grid_attributes(grid: TileGrid) -> dict[str, Any]:
    """Return what every file about a grid says of it, by attribute name."""
    return {
        "slide_id": grid.slide_id,
        "slide_path": grid.slide_path,
        "slide_fingerprint": grid.slide_fingerprint,
        "mpp": grid.mpp,
        "mpp_source": grid.mpp_source,
        "tile_mpp": grid.config.tile_mpp,
        "tile_px": grid.config.tile_px,
        "tile_px_level0": grid.tile_px_level0,
        "overlap_px": grid.config.overlap_px,
        "level": grid.level,
        "read_px": grid.read_px,
        "width_level0": grid.size_level0_px[0],
        "height_level0": grid.size_level0_px[1],
    }


def write_coords(file: h5py.File, grid: TileGrid) -> h5py.Dataset:
    """Write and return `coords` int64 (N, 2) with the attributes by which TRIDENT's readers know them."""
    coords = file.create_dataset("coords", data=grid.coords.reshape(-1, 2).astype(np.int64))
    attributes = {
        "patch_size": grid.config.tile_px,
        "patch_size_level0": grid.tile_px_level0,
        "level0_magnification": round(10 / grid.mpp, 2),
        "target_magnification": round(10 / grid.config.tile_mpp, 2),
        "overlap": grid.config.overlap_px,
        "name": grid.slide_id,
        "level0_width": grid.size_level0_px[0],
        "level0_height": grid.size_level0_px[1],
    }
    for name, value in attributes.items():
        write_attribute(coords, name, value)
    return coords


def refuse_other_tiles(file: h5py.File, grid: TileGrid | Path) -> None:
    """Raise FormatError where the rows of a file are not of the tiles of `grid`, or of another slide file.

    Of a grid's file no more is read than that takes.
    """
    told, (wanted, coords) = read_header(file), _what_rows_are_of(grid)
    is_alike = all(told[name] == wanted[name] for name in _WHAT_ROWS_ARE_OF)
    if not is_alike or not np.array_equal(read_array(file, "coords"), coords):
        kind = str(told["format"]).removeprefix("slidebag.")
        raise FormatError(
            f"{wanted['slide_id']}: its {kind} are of other tiles than its grid has",
            hint=f"the slide was tiled again since: make its {kind} again",
        )


def _what_rows_are_of(grid: TileGrid | Path) -> tuple[dict[str, Any], np.ndarray]:
    if isinstance(grid, TileGrid):
        return grid_attributes(grid), grid.coords
    with open_checked(grid, "grid") as file:
        return read_header(file), read_array(file, "coords")


def save_grid(
    grid: TileGrid,
    path: Path,
    *,
    thumbnail: np.ndarray | None = None,
    quality: TissueQuality | None = None,
    reader: str = "",
) -> None:
    """Write a grid atomically, with what else is known of its slide for `load_summary`.

    `thumbnail` is uint8 (H, W, 3), stored with at most 1,024 px in width and height.
    """
    with replacing_hdf5(path) as file:
        attributes = grid_attributes(grid) | {
            "config": {"grid": asdict(grid.config), "tissue": asdict(grid.tissue_config)},
            "fingerprint": grid.fingerprint,
            "origin": grid.origin,
            "reader": reader,
            **quality_attributes(quality),
        }
        write_header(file, "grid", attributes)
        write_coords(file, grid)
        file["tissue_fraction"] = grid.tissue_fraction.astype(np.float32)
        file["tissue/polygons"] = json.dumps(grid.tissue_polygons)
        if thumbnail is not None:
            file["thumbnail"] = _jpeg(thumbnail)


def _jpeg(pixels: np.ndarray) -> np.ndarray:
    scale = min(1.0, _THUMBNAIL_PX / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]


def load_grid(path: Path) -> TileGrid:
    """Read a grid.

    Raises:
        FormatError: the file is absent, damaged, of another kind or of a newer version.
    """
    with open_checked(path, "grid") as file:
        attributes = read_header(file)
        coords, fraction = read_array(file, "coords"), read_array(file, "tissue_fraction")
        if len(coords) != len(fraction):
            raise FormatError(
                f"{path}: {len(coords)} coords but {len(fraction)} tissue fractions",
                hint="tile this slide again",
            )
        polygons = read_array(file, "tissue/polygons")
    with damage_told(path):
        return grid_from(attributes, coords, fraction, json.loads(polygons))


def grid_from(
    attributes: Mapping[str, Any], coords: np.ndarray, tissue_fraction: np.ndarray, polygons: Mapping
) -> TileGrid:
    """Return the grid that a file's attributes and arrays tell of."""
    return TileGrid(
        slide_id=str(attributes["slide_id"]),
        slide_path=str(attributes["slide_path"]),
        slide_fingerprint=str(attributes["slide_fingerprint"]),
        coords=coords,
        tissue_fraction=tissue_fraction,
        mpp=float(attributes["mpp"]),
        mpp_source=str(attributes["mpp_source"]),
        size_level0_px=(int(attributes["width_level0"]), int(attributes["height_level0"])),
        config=GridConfig(**attributes["config"]["grid"]),
        level=int(attributes["level"]),
        read_px=int(attributes["read_px"]),
        tile_px_level0=int(attributes["tile_px_level0"]),
        tissue_polygons=polygons,
        tissue_config=TissueConfig(**attributes["config"]["tissue"]),
        origin=str(attributes.get("origin", "")),  # files of before there was one
    )
