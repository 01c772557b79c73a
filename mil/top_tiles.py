"""The tiles of a slide that a class is seen in most and least, as one sheet a class and one table."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tiling import Card, TileGrid, contact_sheet, picture_fingerprint, replacing, write_picture

from .cohort import CohortSlide
from .scores import Scores
from .tile_pictures import TILE_PICTURE_PX, slide_pictures

SHOWN = 10  # of the most and of the least suspicious, two lines of a sheet each
_ABOVE, _BELOW = (28, 28, 30), (190, 190, 194)
_COLUMNS = ["class", "end", "rank", "row", "x", "y", "probability", "prototype"]


def top_tiles(scores: Scores, grid: TileGrid) -> pd.DataFrame:
    """Return the tiles with the highest and with the lowest probability of each class but the first.

    `end` is "most" or "least", `rank` counts from 1 within it, `row` is the tile's in the grid, `x` and `y`
    are level-0 pixels. Tiles without a score are left out, and none is at both ends.
    """
    rows = []
    for number, name in list(enumerate(scores.classes))[1:]:
        probability = scores.probability[:, number]
        order = np.argsort(-probability, kind="stable")[: int((~np.isnan(probability)).sum())]
        n_most = min(SHOWN, -(-len(order) // 2))
        n_least = min(SHOWN, len(order) - n_most)
        for end, found in (("most", order[:n_most]), ("least", order[::-1][:n_least])):
            for rank, row in enumerate(found.tolist(), 1):
                x, y = grid.coords[row].tolist()
                told = (name, end, rank, row, x, y, float(probability[row]), int(scores.prototype[row]))
                rows.append(told)
    return pd.DataFrame(rows, columns=_COLUMNS)


def write_top_tiles(
    folder: Path, slide: CohortSlide, grid: TileGrid, scores: Scores, threshold: float, *, fingerprint: str
) -> bool:
    """Write `top_tiles.csv` and a sheet of pictures a class beside it; return whether there was need to.

    Tiles at or above `threshold` have a dark frame.
    """
    positive = list(scores.classes)[1:]
    sheets = [
        folder / ("top_tiles.png" if len(positive) == 1 else f"top_tiles-{n}.png")
        for n in range(1, len(positive) + 1)
    ]
    if all(picture_fingerprint(sheet) == fingerprint for sheet in sheets):
        return False
    table = top_tiles(scores, grid)
    rows = sorted(set(table["row"]))
    pictures = dict(zip(rows, slide_pictures(slide, grid, rows), strict=True)) if rows else {}
    with replacing(folder / "top_tiles.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f")
    for name, sheet in zip(positive, sheets, strict=True):
        of_class = pd.DataFrame(table[table["class"] == name])
        title = f"{slide.slide_id}: most and least p({name})"
        cards = _cards(of_class, pictures, threshold)
        drawn = contact_sheet(cards, len(of_class), title, picture_px=TILE_PICTURE_PX)
        write_picture(sheet, drawn, fingerprint=fingerprint, about=slide.slide_id)
    return True


def _cards(table: pd.DataFrame, pictures: dict[int, Image.Image], threshold: float) -> Iterator[Card]:
    for tile in table.to_dict("records"):
        is_above = tile["probability"] >= threshold
        yield Card(
            f"p = {tile['probability']:.3f}",
            pictures[tile["row"]],
            (f"x {tile['x']:,}, y {tile['y']:,}",),
            flag=f"{tile['end']} {tile['rank']}",
            colour=_ABOVE if is_above else _BELOW,
        )
