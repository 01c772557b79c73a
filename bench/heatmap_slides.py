"""Slides for the measurement of heatmaps: pyramids of JPEG tiles, an ellipse of drawn tissue on glass."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from reading_slide import TILE_PX, streams

from tiling import GridConfig, TileGrid

STEP = 4  # of the pyramid, as Aperio's
_GLASS = (243, 243, 244)


@dataclass(frozen=True)
class Drawn:
    """A slide of `size_px` (width, height) of which `share` is tissue: an ellipse about the middle."""

    size_px: tuple[int, int]
    mpp: float
    share: float

    def is_tissue(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Return whether level-0 places lie on tissue."""
        width, height = self.size_px
        scale = np.sqrt(self.share * 4 / np.pi) / 2
        return np.hypot((xs / width - 0.5) / scale, (ys / height - 0.5) / scale) < 1

    def grid(self, tile_px: int = 256) -> TileGrid:
        """Return the tiles of level-0 pixels on the tissue."""
        xs, ys = (np.arange(side // tile_px) * tile_px for side in self.size_px)
        coords = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2).astype(np.int64)
        coords = coords[self.is_tissue(*(coords.T + tile_px / 2))]
        return TileGrid(
            slide_id="drawn", slide_path="", slide_fingerprint="drawn", mpp=self.mpp, mpp_source="drawn",
            coords=coords, tissue_fraction=np.ones(len(coords), np.float32), size_level0_px=self.size_px,
            config=GridConfig(tile_px=tile_px, tile_mpp=self.mpp), level=0, read_px=tile_px,
            tile_px_level0=tile_px, tissue_polygons={"type": "MultiPolygon", "coordinates": []},
        )  # fmt: skip

    def write(self, path: Path, *, n_bare: int = 0) -> Path:
        """Write the pyramid in Aperio's layout; its first `n_bare` levels show nothing but glass."""
        with tifffile.TiffWriter(path, bigtiff=True) as file:
            down = 1
            while down == 1 or max(self.size_px) / down > TILE_PX * STEP:
                self._write_level(file, down, is_bare=n_bare > 0)
                n_bare, down = n_bare - 1, down * STEP
        return path

    def _write_level(self, file: tifffile.TiffWriter, down: int, *, is_bare: bool) -> None:
        width, height = (round(side / down) for side in self.size_px)
        told = f"Aperio Image Library slidebag\r\n{width}x{height}|AppMag = 20|MPP = {self.mpp}"
        file.write(
            self._tiles(width, height, down, is_bare=is_bare),
            shape=(height, width, 3), dtype=np.uint8, tile=(TILE_PX, TILE_PX), photometric="ycbcr",
            subsampling=(2, 2), compression="jpeg", description=told, metadata=None, software=False,
        )  # fmt: skip

    def _tiles(self, width: int, height: int, down: int, *, is_bare: bool) -> Iterator[bytes]:
        rng = np.random.default_rng(down)
        tissue = streams(85, 0)
        square = np.full((TILE_PX, TILE_PX, 3), _GLASS, np.uint8)
        glass = imagecodecs.jpeg8_encode(square, 85, colorspace="RGB", subsampling="420")
        middles = (np.arange(-(-side // TILE_PX)) * TILE_PX + TILE_PX / 2 for side in (width, height))
        is_tissue = self.is_tissue(*np.meshgrid(*(m * down for m in middles)))
        for found in is_tissue.ravel().tolist():
            yield tissue[rng.integers(len(tissue))] if found and not is_bare else glass
