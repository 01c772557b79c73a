"""TRIDENT's patches/<slide>_patches.h5: sizes in pixels of the target magnification."""

import h5py

from .exchange import COORDS_FORMATS, Hdf5Format, Layout, check_size, number
from .files import write_attribute
from .grid import TileGrid
from .grid_file import write_coords
from .slide import Slide


class TridentFormat(Hdf5Format):
    """`coords` int64 (N, 2) at level 0, with its attributes; a None is the text 'None'."""

    endings = ("_patches.h5", ".h5")  # the second is of features, which tell the tiles too

    def read(self, file: h5py.File, slide: Slide) -> Layout:
        """Return the tiles; older files do not tell the slide's size, which is then not checked."""
        coords = self.corners(file, slide.mpp)
        told, path = file["coords"].attrs, file.filename
        width = number(told, "level0_width", path, default=slide.size_px[0])
        height = number(told, "level0_height", path, default=slide.size_px[1])
        check_size((width, height), slide.size_px, slide, path)
        return Layout(
            coords,
            round(number(told, "patch_size", path)),
            number(told, "patch_size_level0", path),
            round(number(told, "overlap", path, default=0)),
        )

    def write(self, file: h5py.File, grid: TileGrid) -> None:
        """Write the tiles; our own files carry the same attributes but for `savetodir`."""
        write_attribute(write_coords(file, grid), "savetodir", "patches")


COORDS_FORMATS.register("trident")(TridentFormat())
