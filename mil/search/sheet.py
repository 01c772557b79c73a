"""The picture of a search: what was asked for, then what was found."""

from collections.abc import Iterator

import pandas as pd
from PIL import Image

from features import TileIndex
from mil.cohort import CohortSlide
from mil.run_folder import Run
from mil.tile_pictures import TILE_PICTURE_PX, as_picture, tile_pictures
from tiling import (
    CARDS_A_SHEET,
    Card,
    contact_sheet,
    load_grid,
)

from .query import Asked, grid_of

_QUERY = (0, 114, 178)
_MOST_HITS = CARDS_A_SHEET - 1  # the first card is the query's

_Place = tuple[str, int]  # slide_id and row of a tile


def search_sheet(run: Run, index: TileIndex, asked: Asked, hits: pd.DataFrame) -> Image.Image:
    """Return the query and up to 99 hits (columns as in the CSV) as one sheet.

    A hit whose slide cannot be read any more has a card that says so.

    Raises:
        FormatError: a slide was tiled anew since its features were made.
    """
    shown = hits.head(_MOST_HITS)
    places: list[_Place] = [(r["slide_id"], int(r["row"])) for r in shown.to_dict("records")]
    if asked.slide_id is not None:
        places.append((asked.slide_id, int(index.tiles[asked.typical, 1])))
    slides = {s.slide_id: s for s in run.cohort().slides}
    pictures: dict[_Place, Image.Image | str] = {}
    for slide_id in dict.fromkeys(slide_id for slide_id, _ in places):
        rows = sorted({row for slide, row in places if slide == slide_id})
        grid = grid_of(run, index, slide_id)
        found = tile_pictures(run, index.encoder, slides[slide_id], grid, rows)
        pictures |= {(slide_id, row): picture for row, picture in zip(rows, found, strict=True)}
    cards = _cards(asked, index, shown, slides, pictures)
    title = _title(run, index, asked, len(hits))
    return contact_sheet(cards, len(shown) + 1, title, picture_px=TILE_PICTURE_PX)


def _title(run: Run, index: TileIndex, asked: Asked, n_hits: int) -> str:
    grid = load_grid(run.grid_path(index.slide_ids[int(index.tiles[0, 0])])).config
    shown = f"the first {_MOST_HITS} of the {n_hits}" if n_hits > _MOST_HITS else f"the {n_hits}"
    return (
        f"{shown} tiles nearest to {asked.name}: rank and cosine similarity by {index.encoder}; "
        f"tiles are {grid.tile_px * grid.tile_mpp:.4g} µm wide"
    )


def _cards(
    asked: Asked,
    index: TileIndex,
    hits: pd.DataFrame,
    slides: dict[str, CohortSlide],
    pictures: dict[_Place, Image.Image | str],
) -> Iterator[Card]:
    if asked.slide_id is None:
        yield _card(asked.name, as_picture(asked.patch), (), flag="query", colour=_QUERY)
    else:
        _, row, x, y = index.tiles[asked.typical].tolist()
        n_tiles = len(asked.positions)
        flag = "query" if n_tiles == 1 else f"query: most typical of {n_tiles} tiles"
        figures = _figures(x, y, slides[asked.slide_id])
        yield _card(asked.slide_id, pictures[asked.slide_id, row], figures, flag=flag, colour=_QUERY)
    for hit in hits.to_dict("records"):
        slide_id, flag = hit["slide_id"], f"{hit['rank']}: {hit['similarity']:.3f}"
        figures = _figures(hit["x"], hit["y"], slides[slide_id])
        yield _card(slide_id, pictures[slide_id, hit["row"]], figures, flag=flag)


def _card(title: str, shown: Image.Image | str, figures: tuple[str, ...], **look) -> Card:
    told = {"message": shown} if isinstance(shown, str) else {"picture": shown}
    return Card(title, figures=figures, **told, **look)


def _figures(x: int, y: int, slide: CohortSlide) -> tuple[str, str]:
    patient = "" if slide.patient_id == slide.slide_id else slide.patient_id
    label = f"slide: {slide.label}" if slide.label else ""  # the slide's, which a tile need not share
    return f"x {x:,}, y {y:,}", ", ".join(filter(None, (label, patient)))
