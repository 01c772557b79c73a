"""What a person drew on a slide in QuPath: the regions of a GeoJSON file with their classes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import FormatError

_FOUND_BY_MACHINE = frozenset(  # QuPath's objects that nobody drew, as it names them now and before 0.3
    {"detection", "cell", "tile", "PathDetectionObject", "PathCellObject", "PathTileObject"}
)
_WITH_AREA = ("Polygon", "MultiPolygon", "GeometryCollection")
_WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")


@dataclass(frozen=True)
class DrawnRegion:
    """One polygon with its holes, as rings of points; `where` says where it stands, for messages."""

    class_name: str
    polygon: list[Any]
    where: str

    def fill(
        self, target: np.ndarray, size_level0_px: tuple[int, int], origin_px: tuple[int, int] = (0, 0)
    ) -> None:
        """Set the pixels of a bool (H, W) over the whole slide whose centre lies in the region.

        Points are level-0 pixels counted from `origin_px`, the slide's `shown_from_px`.

        Raises:
            FormatError: a ring is none, or lies outside the slide.
        """
        fill_rings(target, self._rings(target.shape, size_level0_px, origin_px))

    def _rings(
        self, shape: tuple[int, ...], size_px: tuple[int, int], origin_px: tuple[int, int]
    ) -> list[np.ndarray]:
        """The rings in pixels of a mask, float64 (n, 2)."""
        try:
            rings = [np.asarray(ring, np.float64)[:, :2] + origin_px for ring in self.polygon]
            is_whole = bool(rings) and all(len(r) >= 3 and np.isfinite(r).all() for r in rings)
        except (TypeError, ValueError, IndexError):
            rings, is_whole = [], False
        if not is_whole or any(ring.shape[1] != 2 for ring in rings):
            raise FormatError(
                f"{self.where}: a ring is no list of three or more points (x, y)",
                hint="draw that region again",
            )
        low, high, size = rings[0].min(axis=0), rings[0].max(axis=0), np.array(size_px)
        if (high <= 0).any() or (low >= size).any():
            raise FormatError(
                f"{self.where}: lies at ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}), "
                f"outside the slide of {size[0]} × {size[1]} px",
                hint="coordinates are level-0 pixels of this slide: export them again from it",
            )
        return [ring * (np.array(shape[::-1]) / size) for ring in rings]


def drawn_regions(path: Path) -> list[DrawnRegion]:
    """Return the regions in a GeoJSON; what QuPath found by itself, points and lines are none.

    Raises:
        FormatError: the file cannot be read, or holds no polygon.
    """
    regions = []
    for number, feature in enumerate(_features(path)):
        where = f"{path}: feature {number + 1}"
        told = feature.get("properties")
        told = told if isinstance(told, dict) else {}
        if str(told.get("objectType", feature.get("id"))) in _FOUND_BY_MACHINE:
            continue
        regions += [DrawnRegion(_class_of(told), p, where) for p in _polygons(feature.get("geometry"), where)]
    if not regions:
        raise FormatError(
            f"{path}: holds no polygon", hint="draw regions and export them again, or remove the file"
        )
    return regions


def bytes_of(path: Path) -> bytes:
    """Return what a file holds; raises FormatError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error})", hint="check the file's permissions") from error


def _features(path: Path) -> list[dict[str, Any]]:
    try:
        told = json.loads(bytes_of(path))
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
