"""AtlasPatch's patches/<slide>.h5: each tile with the level and the pixels it is read at."""

import h5py
import numpy as np

from .exchange import COORDS_FORMATS, Hdf5Format, Layout, check_size, number, read_rows
from .files import write_attribute
from .grid import TileGrid
from .slide import Slide


class AtlasPatchFormat(Hdf5Format):
    """`coords` int32 (N, 5): x, y at level 0, width and height read, level; attributes are the file's."""

    def read(self, file: h5py.File, slide: Slide) -> Layout:
        """Return the tiles; the level to read at is chosen anew, by the resolution."""
        told, path = file.attrs, file.filename
        width = number(told, "level0_width", path, default=slide.size_px[0])
        height = number(told, "level0_height", path, default=slide.size_px[1])
        check_size((width, height), slide.size_px, slide, path)
        return Layout(
            self.corners(file, slide.mpp),
            round(number(told, "patch_size", path)),
            number(told, "patch_size_level0", path),
            round(number(told, "overlap", path, default=0)),
        )

    def corners(self, file: h5py.File, mpp: float) -> np.ndarray:
        """Return the first two of the five columns."""
        return read_rows(file, 5)[:, :2].astype(np.int64)

    def write(self, file: h5py.File, grid: TileGrid) -> None:
        """Write the tiles, to be read at the grid's own level."""
        rows = np.empty((len(grid), 5), np.int32)
        rows[:, :2] = grid.coords
        rows[:, 2:] = grid.read_px, grid.read_px, grid.level
        file.create_dataset("coords", data=rows)
        told = {
            "patch_size": grid.config.tile_px,
            "patch_size_level0": grid.tile_px_level0,
            "level0_magnification": round(10 / grid.mpp),
            "target_magnification": round(10 / grid.config.tile_mpp),
            "overlap": grid.config.overlap_px,
            "level0_width": grid.size_level0_px[0],
            "level0_height": grid.size_level0_px[1],
            "wsi_path": grid.slide_path,
            "num_patches": len(grid),
        }
        for name, value in told.items():
            write_attribute(file, name, value)


COORDS_FORMATS.register("atlaspatch")(AtlasPatchFormat())
