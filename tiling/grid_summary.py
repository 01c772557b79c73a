"""What a grid's file tells of its slide without its tiles being read."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from .errors import FormatError
from .files import damage_told, open_checked, read_array, read_header
from .quality import TissueQuality


@dataclass(frozen=True)
class GridSummary:
    """The facts of one tiled slide; `quality` is None where no tissue was sought (imported tiles)."""

    slide_id: str
    n_tiles: int
    tile_px: int
    tile_mpp: float
    mpp: float
    mpp_source: str
    size_level0_px: tuple[int, int]
    tissue_mpp: float
    reader: str
    quality: TissueQuality | None
    fingerprint: str


def quality_attributes(quality: TissueQuality | None) -> dict[str, Any]:
    """Return what a grid's file says of a slide's quality, by attribute name."""
    return asdict(quality) if quality else {}


def load_summary(path: Path) -> GridSummary:
    """Read the facts of a tiled slide from its grid's file.

    Raises:
        FormatError: the file is absent, damaged, of another kind or of a newer version.
    """
    with open_checked(path, "grid") as file:
        told = read_header(file)
        coords = file.get("coords")
        if not isinstance(coords, h5py.Dataset):
            raise FormatError(f"{path}: has no dataset 'coords'", hint="tile this slide again")
        n_tiles = len(coords)
    with damage_told(path):
        return GridSummary(
            slide_id=str(told["slide_id"]),
            n_tiles=n_tiles,
            tile_px=int(told["tile_px"]),
            tile_mpp=float(told["tile_mpp"]),
            mpp=float(told["mpp"]),
            mpp_source=str(told["mpp_source"]),
            size_level0_px=(int(told["width_level0"]), int(told["height_level0"])),
            tissue_mpp=float(told["config"]["tissue"]["tissue_mpp"]),
            reader=str(told.get("reader", "")),
            quality=_quality(told),
            fingerprint=str(told["fingerprint"]),
        )


def _quality(told: dict[str, Any]) -> TissueQuality | None:
    if any(field.name not in told for field in fields(TissueQuality)):
        return None
    return TissueQuality(
        tissue_mm2=float(told["tissue_mm2"]),
        pen_fraction=float(told["pen_fraction"]),
        focus=float(told["focus"]),
        stain_strength=float(told["stain_strength"]),
        background=str(told["background"]),
    )


def load_thumbnail(path: Path) -> np.ndarray | None:
    """Return the slide's picture that a grid's file holds, (H, W, 3) uint8, None where it holds none.

    Raises:
        FormatError: the file is absent, damaged, of another kind or of a newer version.
    """
    with open_checked(path, "grid") as file, damage_told(path):
        if "thumbnail" not in file:
            return None
        pixels = cv2.imdecode(np.asarray(read_array(file, "thumbnail"), np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError("its thumbnail is no picture")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
