"""Tile pictures in a folder or a table: which there are, what is known of each, and their pixels."""

import hashlib
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tiling import FormatError

from .tile_table import read_tile_table

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_DEEP = ("I", "F")  # Pillow's modes of more than 8 bits begin so
# what Pillow raises for damaged pictures
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_READERS = 4  # pictures decoded at a time


@dataclass(frozen=True)
class TileFolder:
    """Tile pictures in the order of their names, and what is known of each; "" is what is not known.

    `names` are paths below `root`; `labels`, `groups` (of which patient or source) and `batches` (of which
    site, scanner or stain) go with them.
    """

    root: Path
    names: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    batches: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, *, group_column: str = "", batch_column: str = "") -> "TileFolder":
        """Return the pictures below a folder, labelled by its subfolders, or those that a CSV table names.

        Links are followed, but no folder is looked through twice; one that leads nowhere is a broken picture.
        A table has a column file, and label, group and batch where they are known (docs/probe.md).

        Raises:
            FormatError: there is no such folder or table, it cannot be read or holds no picture, or the
                table does not fit.
        """
        path = Path(path)
        if path.is_dir():
            names = sorted(_pictures(path))
            unknown = ("",) * len(names)
            labels = tuple(name.partition("/")[0] if "/" in name else "" for name in names)
            found = cls(path, tuple(names), labels, unknown, unknown)
        else:
            found = cls(path.parent, *read_tile_table(path, group_column, batch_column))
        if not len(found):
            raise FormatError(
                f"{path}: holds no picture", hint=f"give PNG, JPEG, TIFF, BMP or WebP ({', '.join(SUFFIXES)})"
            )
        return found

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"TileFolder({len(self)} pictures, {len(set(self.labels))} labels, {str(self.root)!r})"

    def of(self, rows: Sequence[int]) -> "TileFolder":
        """Return some of the pictures, by their places."""
        lists = (self.names, self.labels, self.groups, self.batches)
        return TileFolder(self.root, *(tuple(told[row] for row in rows) for told in lists))

    def read(self, row: int) -> np.ndarray:
        """Return a picture's pixels, uint8 (H, W, 3), over white where it is transparent.

        Raises:
            FormatError: it is not there, damaged, or has more than 8 bits a channel.
        """
        return self._read(row)[0]

    def patches(self, side_px: int, n: int) -> Iterator[np.ndarray]:
        """Yield all pictures in order, uint8 (n or fewer, side_px, side_px, 3): `as_patch` of each.

        Raises:
            FormatError: as `read` does.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(self), n):
                rows = range(start, min(start + n, len(self)))
                yield np.stack(list(pool.map(lambda row: as_patch(self.read(row), side_px), rows)))

    def checked(self, report: Callable[[], None] = lambda: None) -> "CheckedTiles":
        """Read all pictures once, one after the other; return which are whole, and why others are not.

        `report` is called after each.
        """
        whole, digests, sides, broken = [], [], [], {}
        for row, name in enumerate(self.names):
            try:
                pixels, digest = self._read(row)
            except FormatError as error:
                broken[name] = error.message.removeprefix(f"{name}: ")
            else:
                whole.append(row)
                digests.append(digest)
                sides.append(min(pixels.shape[:2]))
            report()
        return CheckedTiles(self.of(whole), tuple(digests), np.array(sides, int), broken)

    def _read(self, row: int) -> tuple[np.ndarray, str]:
        name = self.names[row]
        try:
            content = (self.root / name).read_bytes()
            with Image.open(io.BytesIO(content)) as picture:
                return _pixels(picture, name), hashlib.sha256(content).hexdigest()
        except FormatError:
            raise
        except _DAMAGE as error:
            why = getattr(error, "strerror", None) or str(error).partition("<")[0].strip() or "damaged"
            raise FormatError(f"{name}: {why}", hint="replace the picture, or leave it out") from error


@dataclass(frozen=True)
class CheckedTiles:
    """Pictures that are whole, with the SHA-256 of each file and its shorter side, int (n,); and `broken`.

    `broken` says of the others, by name, what is wrong with them.
    """

    tiles: TileFolder
    digests: tuple[str, ...]
    sides_px: np.ndarray
    broken: dict[str, str]

    @property
    def side_px(self) -> int:
        """The side that most pictures have, of equally frequent ones the shortest."""
        sides, counts = np.unique(self.sides_px, return_counts=True)
        return int(sides[counts.argmax()])


def as_patch(pixels: np.ndarray, side_px: int) -> np.ndarray:
    """Return the square middle of a picture, uint8 (H, W, 3), resized to (side_px, side_px, 3)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    if side == side_px:
        return square
    how = cv2.INTER_AREA if side > side_px else cv2.INTER_CUBIC
    return cv2.resize(square, (side_px, side_px), interpolation=how)


def as_patches(patches: np.ndarray, side_px: int) -> np.ndarray:
    """Return `as_patch` of each, uint8 (n, side_px, side_px, 3); the same array if that is their size."""
    if patches.shape[1:3] == (side_px, side_px):
        return patches
    return np.stack([as_patch(patch, side_px) for patch in patches])


def _pictures(root: Path) -> Iterator[str]:
    """Each folder is entered once, and by a link only if it is not met without one."""
    folders, links, seen = [root], [], set()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        for path, is_folder in _content(folder):
            if is_folder:
                (links if path.is_symlink() else folders).append(path)
            elif path.suffix.lower() in SUFFIXES and (path.is_file() or path.is_symlink()):
                yield path.relative_to(root).as_posix()


def _content(folder: Path) -> list[tuple[Path, bool]]:
    try:
        return [(path, path.is_dir()) for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError as error:
        raise FormatError(
            f"{error.filename}: cannot be read ({error.strerror})",
            hint="check permissions, or move it elsewhere",
        ) from error


def _pixels(picture: Image.Image, name: str) -> np.ndarray:
    if picture.mode.startswith(_DEEP):
        raise FormatError(f"{name}: has more than 8 bits a channel", hint="save it as 8-bit RGB")
    if picture.has_transparency_data:
        colours = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return np.asarray(picture.convert("RGB"))
