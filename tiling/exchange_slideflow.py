"""slideflow's <slide>.index.npz: the centres of the tiles, whose size bags_config.json tells."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from .errors import FormatError
from .exchange import COORDS_FORMATS, OWN_CONFIG, CoordsFormat, Layout
from .files import replacing
from .grid import TileGrid
from .slide import Slide


class SlideflowFormat(CoordsFormat):
    """`arr_0` (N, 2): tile centres at level 0, rounded down; bags_config.json beside it tells the sizes."""

    endings = (".index.npz",)
    has_empty_files = False

    def load(self, path: Path, slide: Slide) -> tuple[Layout, Any]:
        """Return the tiles; their sides are cut to whole level-0 pixels, as slideflow cuts them."""
        told = bags_config(path.parent)
        tile_px, tile_um = told.get("tile_px"), told.get("tile_um")
        if not (isinstance(tile_px, int) and isinstance(tile_um, int | float) and min(tile_px, tile_um) > 0):
            raise FormatError(
                f"{path}: bags_config.json beside it tells tile_px {tile_px!r}, tile_um {tile_um!r}",
                hint="give --tile-px and --tile-mpp",
            )
        side = tile_um / slide.mpp
        corners = self.load_corners(path, slide.mpp, side)
        return Layout(corners, tile_px, side if OWN_CONFIG in told else int(side)), told.get(OWN_CONFIG)

    def load_corners(self, path: Path, mpp: float, side_level0_px: float) -> np.ndarray:
        """Return the corners: half a side, both rounded down, before the centres."""
        return _centres(path) - int(side_level0_px) // 2

    def save(self, path: Path, grid: TileGrid) -> None:
        """Write the centres, and the sizes beside them."""
        write_bags_config(path.parent, grid)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, arr_0=grid.coords + int(_tile_um(grid) / grid.mpp) // 2)


def _centres(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            rows = file["arr_0"]
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise FormatError(
            f"{path}: not an index of slideflow ({error})", hint="check --format: which tool wrote it"
        ) from error
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "iuf":
        raise FormatError(
            f"{path}: arr_0 is {rows.shape} {rows.dtype}, wanted (N, 2)",
            hint="export the bags with slideflow again",
        )
    return rows.astype(np.int64)


def bags_config(folder: Path) -> dict[str, Any]:
    """Return what bags_config.json in a folder says of the bags there, {} if there is none.

    Raises:
        FormatError: it holds no JSON object.
    """
    path = folder / "bags_config.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path}: no JSON object ({error})", hint="copy it again") from error


def write_bags_config(folder: Path, grid: TileGrid, *, dim: int | None = None, encoder: str = "") -> None:
    """Write bags_config.json for bags whose tiles are like those of `grid`."""
    told = {
        "extractor": {"class": encoder, "kwargs": {}} if encoder else None,
        "normalizer": None,
        "num_features": dim,
        "tile_px": grid.config.tile_px,
        "tile_um": _tile_um(grid),
        OWN_CONFIG: json.dumps(asdict(grid.config)),
    }
    with replacing(folder / "bags_config.json") as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")


def extractor_name(folder: Path) -> str:
    """Return whose bags a folder's are, such as "retccl" of RetCCLFeatures; "" if that is not told."""
    name = str((bags_config(folder).get("extractor") or {}).get("class", ""))
    return re.sub(r"_?features$", "", name, flags=re.IGNORECASE).rpartition(".")[2].lower()


def _tile_um(grid: TileGrid) -> float:
    return grid.config.tile_px * grid.config.tile_mpp


COORDS_FORMATS.register("slideflow")(SlideflowFormat())
