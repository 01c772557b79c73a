"""A feature bag being written: rows come in parts, and the file takes its place only when whole."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiling import (
    SlideError,
    TileGrid,
    check_room,
    grid_attributes,
    replacing_hdf5,
    write_coords,
    write_header,
)

from .bag import BagConfig, bag_fingerprint
from .encoder import Encoder


class BagWriter:
    """The bag of one grid by one encoder; it ends by `finish`, or by `abort`, which leaves nothing of it."""

    def __init__(
        self,
        path: Path,
        grid: TileGrid,
        encoder: Encoder,
        config: BagConfig,
        origin: Mapping[str, Any],
    ) -> None:
        self._grid, self._encoder, self._config = grid, encoder, config
        self._origin = origin  # attributes that tell how the pixels were come by
        self._unreadable = np.zeros(len(grid), bool)
        rows = {name: np.dtype((config.dtype, shape)) for name, shape in self._shapes().items()}
        with ExitStack() as stack:
            self._file = stack.enter_context(replacing_hdf5(path))
            n_bytes = len(grid) * sum(row.itemsize for row in rows.values())
            check_room(path.parent, n_bytes, f"{grid.slide_id}: its bag")
            for name, row in rows.items():
                self._file.create_dataset(name, (len(grid), *row.shape), dtype=config.dtype)
            if config.save_patches:
                self._file.create_dataset("patches", (len(grid),), h5py.vlen_dtype(np.uint8))
            self._open = stack.pop_all()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one row of each dataset of vectors."""
        card, side = self._encoder.card, self._encoder.config.token_side
        shapes: dict[str, tuple[int, ...]] = {"features": (card.dim,)}
        if self._config.views:
            shapes["views"] = (self._config.views, card.dim)
        if side and card.token_dim is not None:
            shapes["tokens"] = (side, side, card.token_dim)
        return shapes

    def add(self, start: int, unreadable: np.ndarray, vectors: dict[str, np.ndarray]) -> None:
        """Write rows from `start` on: arrays by dataset, zero where `unreadable`, bool (n,).

        Raises:
            WriteError: there is no room for them.
        """
        here = slice(start, start + len(unreadable))
        self._unreadable[here] = unreadable
        with self._file.writing():
            for name, rows in vectors.items():
                self._dataset(name)[here] = rows

    def add_patches(self, start: int, streams: list[bytes]) -> None:
        """Write the compressed patches of rows from `start` on; those of unreadable tiles are empty."""
        with self._file.writing():
            for row, stream in enumerate(streams, start):
                if stream:
                    self._dataset("patches")[row] = np.frombuffer(stream, np.uint8)

    def _dataset(self, name: str) -> Any:
        return self._file[name]

    def finish(self) -> int:
        """Give the file its place; return how many tiles were unreadable.

        Raises:
            SlideError: no tile of the slide could be read.
            WriteError: the file could not be written to its end.
        """
        try:
            if len(self._grid) and self._unreadable.all():
                raise SlideError(
                    f"{self._grid.slide_id}: none of its {len(self._grid)} tiles can be read",
                    hint="copy the file again from its source; it is damaged or cut short",
                )
            with self._file.writing():
                self._file["unreadable"] = self._unreadable
                write_coords(self._file, self._grid)
                write_header(self._file, "features", self._attributes())
        except BaseException:
            self.abort()
            raise
        self._open.close()
        return int(self._unreadable.sum())

    def _attributes(self) -> dict[str, Any]:
        encoder, config = self._encoder, self._config
        chosen = {"encoder": encoder.card.name, "precision": encoder.precision}
        return (
            dict(self._origin)
            | grid_attributes(self._grid)
            | {
                "encoder": encoder.card.name,
                "encoder_fingerprint": encoder.fingerprint,
                "weights_digest": encoder.weights_digest,
                "dim": encoder.card.dim,
                "dtype": config.dtype,
                "precision": encoder.precision,
                "engine": encoder.engine,
                "n_unreadable": int(self._unreadable.sum()),
                "config": {"encoder": asdict(encoder.config) | chosen, "bag": asdict(config)},
                "fingerprint": bag_fingerprint(self._grid.fingerprint, encoder, config),
            }
        )

    def abort(self) -> None:
        """Leave nothing behind, whatever has been written."""
        try:
            raise _GivenUp
        except _GivenUp:
            with suppress(OSError, RuntimeError):  # what cannot be flushed is thrown away anyway
                self._open.__exit__(*sys.exc_info())


class _GivenUp(Exception):
    """What tells `replacing` that the file is not to take its place."""
