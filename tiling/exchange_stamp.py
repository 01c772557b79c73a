"""STAMP's <slide>.h5: places in microns, which the slide's resolution turns into pixels."""

import h5py
import numpy as np

from .errors import FormatError
from .exchange import COORDS_FORMATS, Hdf5Format, Layout, number, read_rows
from .files import write_attribute
from .grid import TileGrid
from .slide import Slide


class StampFormat(Hdf5Format):
    """`coords` float32 (N, 2) in microns, beside `feats`; attributes are the file's."""

    has_empty_files = False

    def read(self, file: h5py.File, slide: Slide) -> Layout:
        """Return the tiles; their order is the file's, which differs from run to run of STAMP."""
        return Layout(
            self.corners(file, slide.mpp),
            round(number(file.attrs, "tile_size_px", file.filename)),
            number(file.attrs, "tile_size_um", file.filename) / slide.mpp,
        )

    def corners(self, file: h5py.File, mpp: float) -> np.ndarray:
        """Return the places, which the file tells in microns."""
        unit = file.attrs.get("unit")
        if str(unit) not in ("um", "b'um'"):
            raise FormatError(
                f"{file.filename}: its unit is {unit!r}, wanted 'um'",
                hint="make it again with STAMP 2 or later, and check --format",
            )
        return np.rint(read_rows(file, 2).astype(np.float64) / mpp).astype(np.int64)

    def write(self, file: h5py.File, grid: TileGrid) -> None:
        """Write the tiles; float32 microns are exact to a pixel on any glass slide."""
        file.create_dataset("coords", data=(grid.coords * grid.mpp).astype(np.float32))
        told = {
            "unit": "um",
            "tile_size_um": grid.config.tile_px * grid.config.tile_mpp,
            "tile_size_px": grid.config.tile_px,
            "feat_type": "tile",
        }
        for name, value in told.items():
            write_attribute(file, name, value)


COORDS_FORMATS.register("stamp")(StampFormat())
