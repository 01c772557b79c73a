"""Tiles and tissue as GeoJSON that QuPath opens: places with their probabilities as measurements."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .files import replacing
from .grid import TileGrid
from .heatmap import side_level0_px

# Hues that colour-blind readers tell apart too; the first class, the negative one, is grey.
_CLASS_COLOURS = (
    (150, 150, 150),
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)
_TISSUE_COLOUR = (64, 64, 64)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "slidebag/tile")
_TILES_A_BLOCK = 4096
_HEAD = '{"type": "FeatureCollection", "fingerprint": '
_HEAD_BYTES = 1024


def write_geojson(
    path: Path,
    grid: TileGrid,
    probability: np.ndarray,
    class_names: Sequence[str],
    *,
    fingerprint: str,
    threshold: float | None = None,
    shown_from_px: tuple[int, int] = (0, 0),
) -> None:
    """Write the tiles of one slide, and its tissue, as a GeoJSON FeatureCollection for QuPath.

    Each tile is its exact square in level-0 pixels from `shown_from_px` on, cut at the slide's border,
    with a measurement "p(<class>)" per class. A tile of which any probability is NaN (it was not read) is
    left out. The order is the grid's, and a tile keeps its id from run to run.

    Args:
        path: the file; it takes its place only when it is whole.
        grid: the tiles.
        probability: float (N, C), in the grid's order.
        class_names: the C classes, the negative or background one first.
        fingerprint: kept in the file for `geojson_fingerprint`.
        threshold: a tile is of the likeliest class but the first if that has at least this
            probability, else of the first; if not given, of the likeliest class.
        shown_from_px: (x, y) at level 0 that QuPath counts from, the slide's `shown_from_px`.

    Raises:
        ValueError: `probability` is not (N, C) or holds an infinity, or C is less than 2.
    """
    probability = np.asarray(probability)
    wanted = (len(grid), len(class_names))
    if len(class_names) < 2:
        raise ValueError(f"{grid.slide_id}: {len(class_names)} class names, wanted two or more")
    if probability.shape != wanted:
        raise ValueError(f"{grid.slide_id}: probability is {probability.shape}, wanted {wanted}")
    if np.isinf(probability).any():
        raise ValueError(f"{grid.slide_id}: probability holds an infinity, wanted numbers or NaN")
    blocks = _features(_moved(grid, shown_from_px), probability, class_names, threshold)
    write_collection(path, blocks, fingerprint=fingerprint, told={"slide_id": grid.slide_id})


def write_collection(
    path: Path, blocks: Iterable[list[str]], *, fingerprint: str, told: Mapping[str, Any]
) -> None:
    """Write a FeatureCollection that takes its place only when whole.

    `blocks` are lists of features as JSON; `told` is what else the collection says of itself.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        members = "".join(f"{json.dumps(name)}: {json.dumps(value)}, " for name, value in told.items())
        file.write(f'{_HEAD}{json.dumps(fingerprint)}, {members}"features": [')
        between = "\n"
        for features in blocks:
            file.write(between + ",\n".join(features))
            between = ",\n"
        file.write("\n]}\n")


def geojson_fingerprint(path: Path) -> str | None:
    """Return the fingerprint in a file of `write_geojson`, None where there is none to trust."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("ascii", errors="replace")
    except OSError:
        return None  # absent or unreadable: to be made again
    if not head.startswith(_HEAD):
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(head, len(_HEAD))
    except ValueError:
        return None
    return found if isinstance(found, str) else None


def _moved(grid: TileGrid, origin_px: tuple[int, int]) -> TileGrid:
    """The grid with its places counted from `origin_px`."""
    if origin_px == (0, 0):
        return grid
    x0, y0 = origin_px
    polygons = grid.tissue_polygons.get("coordinates", ())
    moved = [[[[x - x0, y - y0] for x, y in ring] for ring in polygon] for polygon in polygons]
    width, height = grid.size_level0_px
    return replace(
        grid,
        coords=grid.coords - origin_px,
        size_level0_px=(width - x0, height - y0),
        tissue_polygons={**grid.tissue_polygons, "coordinates": moved},
    )


def _features(
    grid: TileGrid, probability: np.ndarray, class_names: Sequence[str], threshold: float | None
) -> Iterator[list[str]]:
    """Yield the features in blocks, so that a slide of any size takes the same memory."""
    if grid.tissue_polygons.get("coordinates"):
        yield [_tissue_feature(grid)]
    known = np.flatnonzero(~np.isnan(probability).any(axis=1))
    for start in range(0, len(known), _TILES_A_BLOCK):
        rows = known[start : start + _TILES_A_BLOCK]
        yield _tile_features(grid, rows, probability[rows], class_names, threshold)


def _tissue_feature(grid: TileGrid) -> str:
    feature = {
        "type": "Feature",
        "id": str(place_id(grid, "tissue")),
        "geometry": dict(grid.tissue_polygons),
        "properties": {
            "objectType": "annotation",
            "classification": {"name": "Tissue", "color": _TISSUE_COLOUR},
            "isLocked": True,  # a stray drag in the viewer does not move it
        },
    }
    return json.dumps(feature)


def _tile_features(
    grid: TileGrid,
    rows: np.ndarray,
    probability: np.ndarray,
    class_names: Sequence[str],
    threshold: float | None,
) -> list[str]:
    corners = grid.coords[rows]
    ends = np.minimum(corners + side_level0_px(grid), grid.size_level0_px)
    kinds = [_classification(name, number) for number, name in enumerate(class_names)]
    names = [json.dumps(f"p({name})") for name in class_names]
    features = []
    for (x0, y0), (x1, y1), number, values in zip(
        corners.tolist(),
        ends.tolist(),
        _predicted(probability, threshold).tolist(),
        probability.tolist(),
        strict=True,
    ):
        right, bottom = f"{x1:.10g}", f"{y1:.10g}"
        ring = f"[{x0}, {y0}], [{right}, {y0}], [{right}, {bottom}], [{x0}, {bottom}], [{x0}, {y0}]"
        measured = ", ".join(f"{n}: {v:.6g}" for n, v in zip(names, values, strict=True))
        features.append(
            f'{{"type": "Feature", "id": "{place_id(grid, f"{x0},{y0}")}", "geometry": '
            f'{{"type": "Polygon", "coordinates": [[{ring}]]}}, "properties": {{"objectType": '
            f'"tile", "classification": {kinds[number]}, "measurements": {{{measured}}}}}}}'
        )
    return features


def place_id(grid: TileGrid, place: str) -> uuid.UUID:
    """Return the id of a feature, the same from run to run."""
    # escaped, since a slide's id may hold what UTF-8 cannot
    return uuid.uuid5(_NAMESPACE, f"{json.dumps(grid.slide_id)} {place}")


def class_colour(number: int) -> tuple[int, int, int]:
    """Return the colour of a class by its number, grey for the first; uint8 red, green, blue."""
    others = len(_CLASS_COLOURS) - 1
    return _CLASS_COLOURS[0 if number == 0 else 1 + (number - 1) % others]


def _classification(name: str, number: int) -> str:
    return json.dumps({"name": name, "color": class_colour(number)})


def _predicted(probability: np.ndarray, threshold: float | None) -> np.ndarray:
    """Return the class of each tile, int (n,)."""
    if threshold is None:
        return probability.argmax(axis=1)
    likeliest = 1 + probability[:, 1:].argmax(axis=1)
    is_above = probability[:, 1:].sum(axis=1) >= threshold
    return np.where(is_above, likeliest, 0)
