"""Hot regions as GeoJSON for QuPath and as a table."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import replacing
from .geojson import class_colour, place_id, write_collection
from .grid import TileGrid
from .hot_regions import HotRegion

_PLACES = (
    "left_px", "top_px", "right_px", "bottom_px", "centroid_x_px", "centroid_y_px",
)  # fmt: skip
_COLUMNS = ("slide_id", "region", "class", "area_mm2", "mean_probability", "max_probability", "n_tiles")


def write_regions(
    path: Path,
    grid: TileGrid,
    regions: Sequence[HotRegion],
    *,
    fingerprint: str,
    told: Mapping[str, Any] | None = None,
    shown_from_px: tuple[int, int] = (0, 0),
) -> None:
    """Write regions as annotations in a GeoJSON FeatureCollection for QuPath.

    Args:
        path: the file; it takes its place only when it is whole.
        grid: the tiles that they are of.
        regions: what `hot_regions` found; they are numbered in their order, from 1.
        fingerprint: kept in the file for `geojson_fingerprint`.
        told: what else the collection says of itself, such as its threshold.
        shown_from_px: (x, y) at level 0 that QuPath counts from, the slide's `shown_from_px`.
    """
    features = _features(grid, regions, shown_from_px)
    told = {"slide_id": grid.slide_id, **(told or {})}
    write_collection(path, ([feature] for feature in features), fingerprint=fingerprint, told=told)


def write_region_table(
    path: Path, grid: TileGrid, regions: Sequence[HotRegion], class_names: Iterable[str]
) -> None:
    """Write regions as CSV, numbered as in `write_regions`; places count from the slide's own corner.

    `class_names` are the classes that each region has a mean of, also where there is no region.
    """
    names = list(class_names)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*_COLUMNS, *_PLACES, *(f"mean_p({name})" for name in names)])
        for number, region in enumerate(regions, 1):
            centroid = region.shape.centroid
            places = (*region.shape.bounds, centroid.x, centroid.y)
            table.writerow(
                [
                    grid.slide_id.encode(errors="replace").decode(), number, region.class_name,
                    f"{region.area_mm2:.9g}", f"{region.mean_probability:.6g}",
                    f"{region.max_probability:.6g}", region.n_tiles,
                    *(f"{place:.2f}" for place in places),
                    *(f"{region.class_probability[name]:.6g}" for name in names),
                ]
            )  # fmt: skip


def _features(grid: TileGrid, regions: Sequence[HotRegion], origin_px: tuple[int, int]) -> Iterator[str]:
    from shapely.affinity import translate
    from shapely.geometry import mapping

    for number, region in enumerate(regions, 1):
        shape = translate(region.shape, -origin_px[0], -origin_px[1])
        measured = {
            "area mm2": region.area_mm2,
            "mean probability": region.mean_probability,
            "max probability": region.max_probability,
            "tiles": region.n_tiles,
            **{f"mean p({name})": p for name, p in region.class_probability.items()},
        }
        yield json.dumps(
            {
                "type": "Feature",
                "id": str(
                    place_id(grid, f"region {region.class_name} {region.shape.bounds} {region.n_tiles}")
                ),
                "bbox": [round(side, 2) for side in shape.bounds],
                "geometry": _rounded(mapping(shape)),
                "properties": {
                    "objectType": "annotation",
                    "name": f"{region.class_name} {number}",
                    "classification": {
                        "name": region.class_name,
                        "color": class_colour(region.class_number),
                    },
                    "isLocked": True,
                    "measurements": measured,
                },
            }
        )


def _rounded(geometry: Mapping[str, Any]) -> dict[str, Any]:
    """The geometry with the two decimals that its corners have."""
    return json.loads(json.dumps(geometry), parse_float=lambda text: round(float(text), 2))
