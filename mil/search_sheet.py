"""The picture of a search: what was asked for, then what was found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from PIL import Image

from features import load_patches
from tiling import (
    CARDS_A_SHEET,
    Card,
    FormatError,
    SlideError,
    TileGrid,
    contact_sheet,
    load_grid,
    open_slide,
    read_patches,
)

from .run_folder import Run

_PICTURE_PX = (224, 224)
_ASKED = (0, 114, 178)
MOST_HITS = CARDS_A_SHEET - 1  # the first card is the query's


@dataclass(frozen=True)
class QueryCard:
    """The card of the query: a tile of the index by slide and row, or a patch; and a line about it."""

    title: str
    slide_id: str | None
    row: int
    patch: np.ndarray | None
    figure: str


def search_sheet(run: Run, encoder: str, asked: QueryCard, hits: pd.DataFrame, title: str) -> Image.Image:
    """Return the query and up to 99 hits (columns as in the CSV) as one sheet.

    A hit whose slide cannot be read any more has a card that says so.
    """
    hits = hits.head(MOST_HITS)
    wanted = [(r["slide_id"], int(r["row"])) for r in hits.to_dict("records")]
    if asked.slide_id is not None:
        wanted.append((asked.slide_id, asked.row))
    pictures: dict[tuple[str, int], Image.Image | str] = {}
    for slide_id in dict.fromkeys(s for s, _ in wanted):
        rows = sorted({row for s, row in wanted if s == slide_id})
        pictures |= {
            (slide_id, r): p for r, p in zip(rows, _pictures(run, encoder, slide_id, rows), strict=True)
        }
    return contact_sheet(_cards(asked, hits, pictures), len(hits) + 1, title, picture_px=_PICTURE_PX)


def _cards(
    asked: QueryCard, hits: pd.DataFrame, pictures: dict[tuple[str, int], Image.Image | str]
) -> Iterator[Card]:
    first = _shown(asked.patch) if asked.slide_id is None else pictures[asked.slide_id, asked.row]
    yield _card(asked.title, first, (asked.figure,), flag="query", colour=_ASKED)
    for hit in hits.to_dict("records"):
        figures = (f"x {hit['x']:,}, y {hit['y']:,}", ", ".join(filter(None, (hit["label"], _patient(hit)))))
        yield _card(
            hit["slide_id"], pictures[hit["slide_id"], hit["row"]], figures,
            flag=f"{hit['rank']}:  {hit['similarity']:.3f}",
        )  # fmt: skip


def _patient(hit: dict) -> str:
    return "" if hit["patient_id"] == hit["slide_id"] else hit["patient_id"]


def _card(title: str, shown: Image.Image | str, figures: tuple[str, ...], **look) -> Card:
    told = {"message": shown} if isinstance(shown, str) else {"picture": shown}
    return Card(title, figures=figures, **told, **look)


def _pictures(run: Run, encoder: str, slide_id: str, rows: Sequence[int]) -> list[Image.Image | str]:
    """The patches at some rows of a slide, ascending: those in its bag, else read from the slide."""
    grid = load_grid(run.grid_path(slide_id))
    bag = run.features_path(encoder, slide_id)
    try:
        patches = load_patches(bag, rows)
    except FormatError:  # it keeps none
        try:
            patches = _read(run, grid, rows)
        except SlideError as error:
            return [error.message] * len(rows)
    return [_shown(patch) for patch in patches]


def _read(run: Run, grid: TileGrid, rows: Sequence[int]) -> list[np.ndarray]:
    slide = next(s for s in run.cohort().slides if s.slide_id == grid.slide_id)
    some = replace(grid, coords=grid.coords[rows], tissue_fraction=grid.tissue_fraction[rows])
    with open_slide(slide.path, id=slide.slide_id, mpp=grid.mpp) as opened:
        return [patch for patches in read_patches(opened, some) for patch in patches.pixels]


def _shown(patch: np.ndarray | None) -> Image.Image:
    if patch is None:
        raise ValueError("a query has a tile or a patch")
    return Image.fromarray(patch).resize(_PICTURE_PX, Image.Resampling.LANCZOS)
