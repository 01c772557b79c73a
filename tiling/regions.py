"""A user's own regions: where tiles may lie on a slide, and where not, as GeoJSON or as a PNG mask."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from .drawn import bytes_of, drawn_regions
from .errors import ConfigError, FormatError
from .tissue import TissueMask

_SUFFIXES = (".geojson", ".png", ".exclude.png")
_EXCLUDING = ("ignore", "exclude", "artifact", "artefact")  # QuPath's own is "Ignore*"
_INSIDE = 128
_MAX_SKEW_PX = 2.0  # a mask drawn on a thumbnail is off by the rounding of its size


@dataclass(frozen=True)
class Regions:
    """The files that say where the tiles of one slide may lie; `fingerprint` changes with their content."""

    slide_id: str
    paths: tuple[Path, ...]
    fingerprint: str

    def __repr__(self) -> str:
        return f"Regions({self.slide_id!r}, {', '.join(p.name for p in self.paths)})"


def find_regions(folder: Path, slide_id: str) -> Regions | None:
    """Return the regions of a slide in a folder, None where it has none.

    They are `<slide_id>.geojson`, `<slide_id>.png` (inside is included) and `<slide_id>.exclude.png`
    (inside is excluded); where a slide has several, all of them hold.

    Raises:
        ConfigError: there is no such folder.
        FormatError: a file of the slide cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: no such folder of regions", hint="name the folder of <slide_id>.geojson"
        )
    paths = tuple(p for p in (folder / f"{slide_id}{s}" for s in _SUFFIXES) if p.is_file())
    if not paths:
        return None
    digest = hashlib.sha256()
    for path in paths:
        content = bytes_of(path)
        digest.update(f"{''.join(path.suffixes[-2:])} {len(content)} ".encode() + content)
    return Regions(slide_id, paths, digest.hexdigest()[:12])


def keep_regions(
    mask: TissueMask, regions: Regions, *, shown_from_px: tuple[int, int] = (0, 0)
) -> TissueMask:
    """Return the tissue that lies inside included regions (anywhere if none is) and outside excluded ones.

    A mask pixel lies where its centre does. A GeoJSON holds polygons in level-0 pixels that QuPath
    counts from the slide's `shown_from_px`; those classified as "Ignore*", "Exclude...", "Artifact..."
    exclude, all others include. A PNG spans the whole slide at any scale; 128 or more is inside.

    Raises:
        FormatError: a file is damaged, holds no region, or lies outside the slide.
    """
    shape = mask.mask.shape
    included, excluded = np.zeros(shape, bool), np.zeros(shape, bool)
    has_included = False
    for path in regions.paths:
        if path.suffix == ".png":
            is_excluding = path.name.endswith(".exclude.png")
            parts = [(is_excluding, _png_mask(path, mask))]
        else:
            parts = _drawn(path, mask, shown_from_px)
        for is_excluding, inside in parts:
            has_included |= not is_excluding
            target = excluded if is_excluding else included
            target |= inside
    kept = mask.mask & ~excluded
    return replace(mask, mask=kept & included if has_included else kept)


def _png_mask(path: Path, mask: TissueMask) -> np.ndarray:
    # not cv2.imread, which finds no file of a non-ASCII name on Windows
    try:
        pixels = cv2.imdecode(np.frombuffer(bytes_of(path) or b"\0", np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:  # OpenCV takes no more than 2**30 pixels
        raise FormatError(
            f"{path}: more pixels than can be read", hint="draw the mask at a coarser scale"
        ) from error
    if pixels is None:
        raise FormatError(f"{path}: not a readable PNG", hint="save the mask again as an 8-bit grey PNG")
    if 0 < pixels.max() < _INSIDE:  # a mask of 0 and 1, say, would be none at all
        raise FormatError(
            f"{path}: its brightest pixel is {pixels.max()}, and inside is {_INSIDE} or more",
            hint="save the mask again as an 8-bit grey PNG, with 255 inside and 0 outside",
        )
    height, width = pixels.shape
    slide_width, slide_height = mask.size_level0_px
    if abs(width - slide_width * height / slide_height) > max(_MAX_SKEW_PX, 0.02 * width):
        raise FormatError(
            f"{path}: {width} × {height} px, but the slide has {slide_width} × {slide_height}",
            hint="draw the mask over the whole slide, at any scale",
        )
    inside = (pixels >= _INSIDE).astype(np.float32)
    is_finer = width > mask.mask.shape[1]
    way = cv2.INTER_AREA if is_finer else cv2.INTER_NEAREST
    return cv2.resize(inside, mask.mask.shape[::-1], interpolation=way) >= 0.5


def _drawn(path: Path, mask: TissueMask, origin_px: tuple[int, int]) -> list[tuple[bool, np.ndarray]]:
    """What a GeoJSON excludes (True) and includes (False), each bool (H, W)."""
    masks: dict[bool, np.ndarray] = {}
    for region in drawn_regions(path):
        is_excluding = region.class_name.casefold().startswith(_EXCLUDING)
        target = masks.setdefault(is_excluding, np.zeros(mask.mask.shape, bool))
        region.fill(target, mask.size_level0_px, origin_px)
    return list(masks.items())
