"""Where tiles come from: folders of pictures, bags with patches, tiled slides; one interface to all."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from features.bag import load_features
from features.stored_patches import load_patches
from features.tile_folder import TileFolder
from tiling import (
    FormatError,
    SlidebagError,
    SlideError,
    TileGrid,
    fingerprint,
    load_grid,
    read_header,
    read_patches,
)

from .open_slides import slide_of


class Source(Protocol):
    """Some tiles of one kind and one resolution."""

    @property
    def place(self) -> str:
        """Where they are."""
        ...

    @property
    def identity(self) -> str:
        """What changes with any of them."""
        ...

    @property
    def side_um(self) -> float | None:
        """How long the side of a tile is; None: not known."""
        ...

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """What to call a tile."""
        ...

    def take(self, row: int) -> np.ndarray:
        """Return a tile's pixels, uint8 (H, W, 3); SlidebagError where it cannot be read."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Pictures of a folder that were whole when they were looked at."""

    folder: TileFolder
    digests: tuple[str, ...]
    side_um: None = None

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder.root)

    @property
    def identity(self) -> str:
        """Their names and all their bytes."""
        return fingerprint(list(self.folder.names), list(self.digests))

    def __len__(self) -> int:
        return len(self.folder)

    def name(self, row: int) -> str:
        """Return the picture's path below its folder."""
        return self.folder.names[row]

    def take(self, row: int) -> np.ndarray:
        """Return a picture's pixels."""
        return self.folder.read(row)


@dataclass(frozen=True)
class StoredPatches:
    """The readable patches of a feature bag that keeps them."""

    path: Path
    rows: np.ndarray
    identity: str
    side_um: float

    @property
    def place(self) -> str:
        """The bag."""
        return str(self.path)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """Return the bag and the row in it."""
        return f"{self.path} row {self.rows[row]}"

    def take(self, row: int) -> np.ndarray:
        """Return a stored patch."""
        return load_patches(self.path, [int(self.rows[row])])[0]


@dataclass(frozen=True)
class SlideTiles:
    """The tiles of a slide, read from its file when they are wanted."""

    path: Path
    grid: TileGrid
    identity: str

    @property
    def place(self) -> str:
        """The slide's file."""
        return self.grid.slide_path

    @property
    def side_um(self) -> float:
        """µm that the side of a tile is long."""
        return self.grid.config.tile_mpp * self.grid.config.tile_px

    def __len__(self) -> int:
        return len(self.grid)

    def name(self, row: int) -> str:
        """Return the slide and the tile's corner."""
        x, y = self.grid.coords[row].tolist()
        return f"{self.grid.slide_id} at {x}, {y}"

    def take(self, row: int) -> np.ndarray:
        """Return the patch of a tile."""
        grid = self.grid
        one = replace(grid, coords=grid.coords[[row]], tissue_fraction=grid.tissue_fraction[[row]])
        patches = next(read_patches(slide_of(grid), one, batch=1))
        if patches.unreadable[0]:
            raise SlideError(f"{self.name(row)}: cannot be read", hint="copy the slide again")
        return patches.pixels[0]


@dataclass(frozen=True)
class Tiles:
    """The tiles of all sources in order; `labels` and `digests` are "" where there are none.

    `broken` says of what cannot be read, by name, what is wrong with it.
    """

    sources: tuple[Source, ...]
    labels: tuple[str, ...]
    digests: tuple[str, ...]
    broken: dict[str, str]

    @classmethod
    def open(cls, places: Sequence[Path]) -> "Tiles":
        """Look at all tiles of folders, run folders, bags and grids; pictures are read once.

        Raises:
            FormatError: there is no such place, nothing in it that tiles could be taken from, or pictures
                beside grids or bags.
        """
        sources: list[Source] = []
        labels: list[str] = []
        digests: list[str] = []
        broken: dict[str, str] = {}
        for place in places:
            for source in _sources(Path(place), broken):
                sources.append(source)
                known = isinstance(source, Pictures)
                labels += source.folder.labels if known else [""] * len(source)
                digests += source.digests if known else [""] * len(source)
        return cls(tuple(sources), tuple(labels), tuple(digests), broken)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Tiles({len(self)} of {len(self.sources)} sources, {len(self.broken)} broken)"

    @property
    def identity(self) -> str:
        """What changes with any tile."""
        return fingerprint([source.identity for source in self.sources])

    @property
    def side_um(self) -> float | None:
        """The side of the tiles in µm, where all sources know it and agree within 10 %."""
        sides = [source.side_um for source in self.sources]
        known = [side for side in sides if side is not None]
        if not known or len(known) < len(sides) or max(known) > 1.1 * min(known):
            return None
        return float(np.median(known))

    def name(self, index: int) -> str:
        """Return what to call a tile."""
        source, row = self._find(index)
        return source.name(row)

    def take(self, index: int) -> np.ndarray:
        """Return a tile's pixels, uint8 (H, W, 3); SlidebagError where it cannot be read."""
        source, row = self._find(index)
        return source.take(row)

    def _find(self, index: int) -> tuple[Source, int]:
        k = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[k], index - int(self._ends[k]) + len(self.sources[k])

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(source) for source in self.sources])


def _sources(place: Path, broken: dict[str, str]) -> Iterator[Source]:
    if not place.exists():
        raise FormatError(f"{place}: is not there", hint="give folders of pictures, run folders, or bags")
    files, grids = ([place] if place.suffix == ".h5" else []), place
    if place.is_dir():
        grids = place / "tiles" if (place / "slides.csv").is_file() else place  # of a run folder
        files = sorted(p for p in grids.rglob("*.h5") if not p.name.startswith("."))
        if not files and grids != place:
            raise FormatError(f"{place}: has no tiles yet", hint=f"run `slidebag tile` into {place} first")
        if files:
            _refuse_pictures(grids, files[0])
    if not files:
        checked = TileFolder.open(place).checked()
        broken.update({str(place / name): why for name, why in checked.broken.items()})
        yield Pictures(checked.tiles, checked.digests)
    slides = _slide_paths(grids) if files else {}
    for file in files:
        try:
            yield _of_file(file, slides)
        except SlidebagError as error:
            broken[str(file)] = str(error)


def _refuse_pictures(folder: Path, file: Path) -> None:
    """Raise FormatError where pictures lie beside grids or bags: which of both is meant is not clear."""
    try:
        pictures = TileFolder.open(folder)
    except FormatError:  # there is none
        return
    raise FormatError(
        f"{folder}: holds pictures ({pictures.names[0]}) and grids or bags ({file.relative_to(folder)})",
        hint="move them apart, and give the folders of those to learn from",
    )


def _slide_paths(grids: Path) -> dict[str, str]:
    """Return where slides are, by id, as the run tells that some grids are of, which `extract` goes by too.

    A grid tells it as it was typed, which may hold in one folder alone.
    """
    whole = grids.absolute()
    tables = [p.parent / "slides.csv" for p in (whole, *whole.parents) if p.name == "tiles"]
    table = next((each for each in tables if each.is_file()), None)
    if table is None:
        return {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            is_of_run = {"slide_id", "path"} <= set(rows.fieldnames or ())
            return {row["slide_id"]: row["path"] for row in rows if row["path"]} if is_of_run else {}
    except (ValueError, csv.Error) as error:
        raise FormatError(f"{table}: is damaged ({error})", hint="run `slidebag tile` again") from error


def _of_file(path: Path, slides: dict[str, str]) -> Source:
    try:
        with h5py.File(path, "r") as file:
            kind, told = file.attrs.get("format"), dict(read_header(file))
    except OSError as error:
        raise FormatError(f"{path}: not a readable HDF5 file ({error})", hint="make it again") from error
    if kind == "slidebag.features":
        bag = load_features(path, mapped=True)
        rows = np.flatnonzero(~bag.unreadable)
        load_patches(path, [])  # that there are any
        side_um = float(told["tile_mpp"]) * int(told["tile_px"])
        return StoredPatches(path, rows, fingerprint(bag.fingerprint, rows.tolist()), side_um)
    grid = load_grid(path)
    grid = replace(grid, slide_path=slides.get(grid.slide_id, grid.slide_path))
    if not Path(grid.slide_path).exists():
        raise SlideError(f"{grid.slide_id}: {grid.slide_path} is gone", hint="bring the slide back")
    return SlideTiles(path, grid, fingerprint(str(told["fingerprint"])))
