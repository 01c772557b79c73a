"""CLAM's patches/<slide>.h5: sizes in pixels of the level that CLAM reads."""

import h5py
import numpy as np

from .errors import FormatError
from .exchange import COORDS_FORMATS, Hdf5Format, Layout, check_size, number, numbers
from .files import write_attribute
from .grid import TileGrid
from .slide import Slide


class ClamFormat(Hdf5Format):
    """`coords` int64 (N, 2) at level 0; `patch_size` is in pixels of `patch_level`."""

    has_empty_files = False

    def read(self, file: h5py.File, slide: Slide) -> Layout:
        """Return the tiles; how far they overlap is told by their distance alone."""
        coords = self.corners(file, slide.mpp)
        told = file["coords"].attrs
        level = round(number(told, "patch_level", file.filename))
        if not 0 <= level < len(slide.level_sizes_px):
            raise FormatError(
                f"{file.filename}: patch_level is {level}, slide {slide.id} has levels 0 to "
                f"{len(slide.level_sizes_px) - 1}",
                hint="name the file of this slide, or the slide of this file",
            )
        if "level_dim" in told:
            size = numbers(told["level_dim"], "level_dim", file.filename)
            check_size(size, slide.level_sizes_px[level], slide, file.filename)
        tile_px = round(number(told, "patch_size", file.filename))
        downsample = number(told, "downsample", file.filename)
        side = tile_px * downsample
        overlap = round((side - _step(coords, side)) / downsample) if downsample > 0 else 0
        return Layout(coords, tile_px, side, max(0, overlap))

    def write(self, file: h5py.File, grid: TileGrid) -> None:
        """Write the tiles as read at level 0, the one level whose downsample needs no rounding."""
        coords = file.create_dataset("coords", data=grid.coords.astype(np.int64))
        told = {
            "patch_size": grid.tile_px_level0,
            "patch_level": 0,
            "downsample": (1.0, 1.0),
            "downsampled_level_dim": grid.size_level0_px,
            "level_dim": grid.size_level0_px,
            "name": grid.slide_id.rpartition("/")[2],
            "save_path": "patches",
        }
        for name, value in told.items():
            write_attribute(coords, name, value)


def _step(coords: np.ndarray, side: float) -> float:
    """The usual distance of one tile to the next down a column; `side` where no two follow each other."""
    moves = np.diff(coords, axis=0)
    down = moves[(moves[:, 0] == 0) & (moves[:, 1] > 0), 1]
    if not len(down):
        return side
    steps, counts = np.unique(down, return_counts=True)
    return float(steps[counts.argmax()])


COORDS_FORMATS.register("clam")(ClamFormat())
