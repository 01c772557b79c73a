"""The tiles of a slide that a class is seen in most and least, as one sheet a class and one table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tiling import Card, Slide, TileGrid, contact_sheet, probability_text, replacing, write_picture

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
    table: Path, sheets: Sequence[tuple[str, Path]], slide: Slide, grid: TileGrid, scores: Scores,
    threshold: float, *, fingerprint: str,
) -> None:  # fmt: skip
    """Write the `table` (CSV), then a sheet of pictures for each class of `sheets`.

    A tile has a dark frame where all classes but the first together reach `threshold`.
    """
    found = top_tiles(scores, grid)
    rows = sorted(set(found["row"]))
    pictures = dict(zip(rows, slide_pictures(slide, grid, rows), strict=True)) if rows else {}
    is_above = scores.probability[:, 1:].sum(axis=1) >= threshold
    with replacing(table) as temporary:
        found.to_csv(temporary, index=False, float_format="%.6f")
    together = "all positive classes together " if len(scores.classes) > 2 else ""
    for name, path in sheets:
        of_class = pd.DataFrame(found[found["class"] == name])
        cards = _cards(of_class, pictures, is_above)
        which = f"{together}at or above the threshold {threshold:.3g}"
        title = f"{slide.id}: most and least p({name}); dark frame: {which}"
        sheet = contact_sheet(cards, len(of_class), title, picture_px=TILE_PICTURE_PX, n_figures=1)
        write_picture(path, sheet, fingerprint=fingerprint, about=slide.id)


def _cards(table: pd.DataFrame, pictures: dict[int, Image.Image], is_above: np.ndarray) -> Iterator[Card]:
    for tile in table.to_dict("records"):
        yield Card(
            f"p {probability_text(tile['probability'], 3)}",
            pictures[tile["row"]],
            (f"x {tile['x']:,}, y {tile['y']:,}",),
            flag=f"{tile['end']} {tile['rank']}",
            colour=_ABOVE if is_above[tile["row"]] else _BELOW,
        )
