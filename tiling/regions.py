"""A user's own regions: where tiles may lie on a slide, and where not, as GeoJSON or as a PNG mask."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .errors import ConfigError, FormatError
from .tissue import TissueMask

_SUFFIXES = (".geojson", ".png", ".exclude.png")
_EXCLUDING = ("ignore", "exclude", "artifact", "artefact")  # QuPath's own is "Ignore*"
_FOUND_BY_MACHINE = frozenset(  # QuPath's objects that nobody drew, as it names them now and before 0.3
    {"detection", "cell", "tile", "PathDetectionObject", "PathCellObject", "PathTileObject"}
)
_WITH_AREA = ("Polygon", "MultiPolygon", "GeometryCollection")
_WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
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
        content = _bytes_of(path)
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


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error})", hint="check the file's permissions") from error


def _png_mask(path: Path, mask: TissueMask) -> np.ndarray:
    # not cv2.imread, which finds no file of a non-ASCII name on Windows
    pixels = cv2.imdecode(np.frombuffer(_bytes_of(path) or b"\0", np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise FormatError(f"{path}: not a readable PNG", hint="save the mask again as an 8-bit grey PNG")
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
    for number, feature in enumerate(_features(path)):
        where = f"{path}: feature {number + 1}"
        told = feature.get("properties")
        told = told if isinstance(told, dict) else {}
        if str(told.get("objectType", feature.get("id"))) in _FOUND_BY_MACHINE:
            continue
        for polygon in _polygons(feature.get("geometry"), where):
            is_excluding = _class_of(told).casefold().startswith(_EXCLUDING)
            target = masks.setdefault(is_excluding, np.zeros(mask.mask.shape, bool))
            fill_rings(target, _rings(polygon, mask, origin_px, where))
    if not masks:
        raise FormatError(
            f"{path}: holds no polygon", hint="draw regions and export them again, or remove the file"
        )
    return list(masks.items())


def _features(path: Path) -> list[dict[str, Any]]:
    try:
        told = json.loads(_bytes_of(path))
    except ValueError as error:  # no JSON, or no UTF-8
        raise FormatError(
            f"{path}: not readable as GeoJSON ({error})", hint="export the annotations again"
        ) from error
    if isinstance(told, dict) and told.get("type") == "FeatureCollection":
        told = told.get("features")
    features: list[Any] = told if isinstance(told, list) else [told]
    for feature in features:
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            found = feature.get("type") if isinstance(feature, dict) else type(feature).__name__
            raise FormatError(
                f"{path}: holds {found!r} where a Feature was wanted",
                hint="export the annotations as a GeoJSON FeatureCollection",
            )
    return features


def _class_of(properties: dict[str, Any]) -> str:
    told = properties.get("classification") or ""
    if isinstance(told, dict):  # QuPath writes a derived class as a list of names
        names = told.get("names")
        told = told.get("name") or ": ".join(map(str, names if isinstance(names, list) else ()))
    return str(told).strip()


def _polygons(geometry: Any, where: str) -> Iterator[list[Any]]:
    """The polygons of a geometry, each a list of rings; points and lines have no area and yield none."""
    told = geometry if isinstance(geometry, dict) else {}
    kind = told.get("type")
    parts = told.get("geometries" if kind == "GeometryCollection" else "coordinates")
    if not isinstance(parts, list) or kind not in (*_WITH_AREA, *_WITHOUT_AREA):
        raise FormatError(
            f"{where}: geometry is {kind!r} of {len(parts) if isinstance(parts, list) else 'no'} parts",
            hint="draw polygons, or export the annotations again",
        )
    if kind == "Polygon":
        yield parts
    elif kind == "MultiPolygon":
        yield from parts
    elif kind == "GeometryCollection":
        for part in parts:
            yield from _polygons(part, where)


def _rings(polygon: list[Any], mask: TissueMask, origin_px: tuple[int, int], where: str) -> list[np.ndarray]:
    """A polygon's rings in mask pixels, float64 (n, 2)."""
    try:
        rings = [np.asarray(ring, np.float64)[:, :2] + origin_px for ring in polygon]
        is_whole = bool(rings) and all(len(r) >= 3 and np.isfinite(r).all() for r in rings)
    except (TypeError, ValueError, IndexError):
        rings, is_whole = [], False
    if not is_whole or any(ring.shape[1] != 2 for ring in rings):
        raise FormatError(
            f"{where}: a ring is no list of three or more points (x, y)", hint="draw that region again"
        )
    low, high, size = rings[0].min(axis=0), rings[0].max(axis=0), np.array(mask.size_level0_px)
    if (high <= 0).any() or (low >= size).any():
        raise FormatError(
            f"{where}: lies at ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}), "
            f"outside the slide of {size[0]} × {size[1]} px",
            hint="coordinates are level-0 pixels of this slide: export them again from it",
        )
    return [ring * (np.array(mask.mask.shape[::-1]) / size) for ring in rings]


def fill_rings(target: np.ndarray, rings: list[np.ndarray]) -> None:
    """Set the pixels of a bool (H, W) whose centre the rings hold, by the even-odd rule: holes stay holes."""
    limit = np.array(target.shape[::-1])
    left, top = np.clip(np.floor(rings[0].min(axis=0)), 0, limit).astype(int)
    right, bottom = np.clip(np.ceil(rings[0].max(axis=0)), 0, limit).astype(int)
    width, height = right - left, bottom - top
    crossings = np.zeros((height, width + 1), np.uint8)
    for ring in rings:
        x0, y0 = (ring - (left, top)).T
        x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
        # an edge crosses the rows whose centre lies in [lower end, upper end): no corner counts twice
        first, last = (
            np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (np.minimum(y0, y1), np.maximum(y0, y1))
        )
        edge = np.repeat(np.arange(len(ring)), last - first)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
        x = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
        np.add.at(crossings, (row, np.clip(np.ceil(x - 0.5), 0, width).astype(int)), 1)
    target[top:bottom, left:right] |= np.bitwise_xor.accumulate(crossings & 1, axis=1)[:, :-1].astype(bool)
