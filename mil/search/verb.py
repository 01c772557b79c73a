"""The verb `search`: the tiles of a run that look most like a tile, a region or a picture."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from features import IndexConfig, TileIndex
from mil.bag_files import BagFiles
from mil.progress import progress
from mil.run_folder import Run
from mil.with_features import with_features
from tiling import ConfigError, fingerprint, replacing, write_picture

from .query import Asked, Query, ask
from .sheet import search_sheet

MATCHES = ("mean", "best")
_COLUMNS = ["rank", "slide_id", "row", "x", "y", "similarity", "patient_id", "label"]


@dataclass(frozen=True, kw_only=True)
class SearchConfig(IndexConfig):
    """What counts as near, what may be found, and how the index is made."""

    top: int = field(default=20, metadata={"help": "how many tiles are found"})
    match: str = field(
        default="mean",
        metadata={"help": "a region is the mean of its tiles, or the best of each: mean, best"},
    )
    exclude_slide: bool = field(default=False, metadata={"help": "leave out the query's own slide"})
    exclude_patient: bool = field(
        default=False, metadata={"help": "leave out all slides of the query's own patient"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1:
            raise ConfigError(f"top is {self.top}", hint="ask for 1 tile or more")
        if self.match not in MATCHES:
            raise ConfigError(f"match is {self.match!r}", hint=f"choose from {', '.join(MATCHES)}")


@dataclass(frozen=True)
class Found:
    """The hits, nearest first (columns as in formats.md), where they were written, and by which index."""

    hits: pd.DataFrame
    table: Path
    picture: Path
    index: TileIndex


def open_index(run: Run, encoder: str, config: IndexConfig | None = None) -> TileIndex:
    """Return the index of a run's tiles by one encoder, built if it is not there or bags have changed.

    Raises:
        FormatError: the run has no features of `encoder`.
        SlidebagError: its bags are of different weights.
    """
    files = BagFiles(run, encoder)
    found = with_features(run, files, "search")
    found.tell(run)
    bags = {s.slide_id: files.path(s.slide_id) for s in found.cohort.slides}
    told = config or IndexConfig()
    index_config = IndexConfig(exact_up_to=told.exact_up_to, least_recall=told.least_recall, seed=told.seed)
    with progress("index", len(bags)) as advance:
        return TileIndex.current(bags, run.search_folder(encoder), index_config, report=advance)


def search(run: Run, query: Query, encoder: str, config: SearchConfig | None = None) -> Found:
    """Find the tiles nearest to a query by cosine similarity; write them as a CSV and a picture.

    The query's own tiles are never among them.

    Raises:
        ConfigError: the query does not fit the run, or nothing is left to be found.
        FormatError: the run has no features of `encoder`.
    """
    config = config or SearchConfig()
    index = open_index(run, encoder, config)
    asked = ask(query, run, index)
    hits = _hits(run, index, asked, config)
    sheet = search_sheet(run, index, asked, hits)
    place = run.search_folder(encoder) / "hits" / asked.stem
    table, picture = place.with_name(place.name + ".csv"), place.with_name(place.name + ".png")
    with replacing(table) as temporary:
        hits.to_csv(temporary, index=False, float_format="%.6f")
    asked_with = fingerprint(index.fingerprint, asked.name, config)
    write_picture(picture, sheet, fingerprint=asked_with, about=asked.name)
    return Found(hits, table, picture, index)


def _hits(run: Run, index: TileIndex, asked: Asked, config: SearchConfig) -> pd.DataFrame:
    slides = {s.slide_id: s for s in run.cohort().slides}
    among = np.ones(len(index), bool)
    among[asked.positions] = False
    if config.exclude_slide or config.exclude_patient:
        if asked.slide_id is None:
            raise ConfigError(
                f"{asked.name} is of no slide of the run",
                hint="leave out --exclude-slide and --exclude-patient",
            )
        patient = slides[asked.slide_id].patient_id
        out = {s for s in slides if config.exclude_patient and slides[s].patient_id == patient}
        among &= ~index.of_slides(out | {asked.slide_id})
    if not among.any():
        raise ConfigError(f"{asked.name}: no tile is left to be found", hint="exclude less")
    positions, similarity = _nearest(index, asked, config, among)
    tiles = index.tiles[positions]
    ids = [index.slide_ids[k] for k in tiles[:, 0]]
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(ids) + 1), "slide_id": ids,
            "row": tiles[:, 1], "x": tiles[:, 2], "y": tiles[:, 3], "similarity": similarity,
            "patient_id": [slides[i].patient_id for i in ids], "label": [slides[i].label for i in ids],
        },
        columns=_COLUMNS,
    )  # fmt: skip


def _nearest(
    index: TileIndex, asked: Asked, config: SearchConfig, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and similarities, the nearest first: to the mean of the query's tiles or to any of them."""
    vectors = asked.vectors.mean(axis=0, keepdims=True) if config.match == "mean" else asked.vectors
    found = index.search(vectors, config.top, among=among)
    positions, similarity = found.positions.ravel(), found.similarity.ravel()
    order = np.argsort(-similarity, kind="stable")  # NaN last
    order = order[positions[order] >= 0]
    _, first = np.unique(positions[order], return_index=True)
    best = order[np.sort(first)][: config.top]
    return positions[best], similarity[best]
