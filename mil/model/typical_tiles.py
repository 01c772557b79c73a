"""The training tiles that are most typical of each prototype or class, as pictures beside the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mil.bag_files import Bags
from mil.bags import LoadedBag, SlideGroup
from mil.classes import Classes, names_in
from mil.learner import Learner
from mil.run_folder import Run
from mil.tile_pictures import tile_pictures
from tiling import replacing_folder

from .fitted import Fitted

FOLDER = "typical"
_ONE_IN, _A_BAG, _SHOWN = 10, 20, 6  # candidates: a tenth of a bag, 20 at most; pictures of a group
_COLUMNS = ["group", "rank", "slide_id", "row", "x", "y", "probability", "picture", "message"]
_SHARES = ["prototype", "group", "class", "share", "bags"]


@dataclass(frozen=True)
class TypicalTiles:
    """What `typical/` holds: `tiles` as in typical.csv, `prototypes` as in prototypes.csv (formats.md)."""

    tiles: pd.DataFrame
    prototypes: pd.DataFrame


@dataclass(frozen=True)
class _Tile:
    """The tile of one bag that is nearest to the middle of a group."""

    distance: float
    bag: LoadedBag
    row: int
    probability: float


@dataclass(frozen=True)
class _Candidates:
    """The strongest tiles of one bag for one class, with the features that they are compared by."""

    bag: LoadedBag
    rows: np.ndarray
    probability: np.ndarray
    features: np.ndarray


def write_typical_tiles(
    folder: Path, fitted: Fitted, run: Run, source: Bags, groups: Sequence[SlideGroup],
    bags: Sequence[LoadedBag],
) -> TypicalTiles:  # fmt: skip
    """Write `typical/` into a model's folder and return what is in it.

    Typical of a prototype are the tiles nearest to it (the first is its medoid) in the bags that may have
    its class, one a bag; how often each is the nearest of all is told by class of the bags. Where a learner
    has no prototypes, typical of a class are the tiles nearest to the mean of its most probable ones. A
    slide that cannot be read any more leaves a message in place of the picture.
    """
    learner = fitted.learner
    if learner.n_prototypes:
        found, prototypes = _medoids(fitted, bags)
    else:
        found, prototypes = _of_classes(fitted, bags), pd.DataFrame(columns=_SHARES)
    chosen = [
        _row(group, rank, tile)
        for group, tiles in found.items()
        for rank, tile in enumerate(sorted(tiles, key=lambda tile: tile.distance)[:_SHOWN], 1)
    ]
    number = {group: k for k, group in enumerate(found)}
    by_id = {slide.slide_id: slide for group in groups for slide in group.slides}
    with replacing_folder(folder / FOLDER) as temporary:
        for slide_id in sorted({row["slide_id"] for row in chosen}):
            of_slide = [row for row in chosen if row["slide_id"] == slide_id]
            grid, rows = source.grid(slide_id), sorted({row["row"] for row in of_slide})
            pictures = tile_pictures(run, source.encoder, by_id[slide_id], grid, rows)
            by_row = dict(zip(rows, pictures, strict=True))
            for row in of_slide:
                row["x"], row["y"] = grid.coords[row["row"]].tolist()
                _save(temporary, row, f"{number[row['group']]}-{row['rank']}.jpg", by_row[row["row"]])
        table = pd.DataFrame(chosen, columns=_COLUMNS)
        table.to_csv(temporary / "typical.csv", index=False)
        if learner.n_prototypes:
            prototypes.to_csv(temporary / "prototypes.csv", index=False)
    return TypicalTiles(table, prototypes)


def _row(group: str, rank: int, tile: _Tile) -> dict[str, Any]:
    slide_id, row = tile.bag.place(tile.row)
    probability = f"{tile.probability:.6f}"
    return {"group": group, "rank": rank, "slide_id": slide_id, "row": row, "probability": probability}


def _save(folder: Path, row: dict[str, Any], name: str, picture: Image.Image | str) -> None:
    """Write the picture of one tile, or say in its row why there is none."""
    row["picture"], row["message"] = "", ""
    if isinstance(picture, str):
        row["message"] = picture
        return
    row["picture"] = name
    picture.save(folder / row["picture"], quality=85)


def _medoids(fitted: Fitted, bags: Sequence[LoadedBag]) -> tuple[dict[str, list[_Tile]], pd.DataFrame]:
    """Return of each prototype the nearest tile of each bag, and how often it is the nearest of all."""
    classes, n = fitted.learner.classes, fitted.learner.n_prototypes
    names = _names(fitted.learner)
    found: dict[str, list[_Tile]] = {name: [] for name in names}
    shares = np.zeros((len(bags), len(names)))
    for i, loaded in enumerate(bags):
        told = fitted.predict(loaded)
        assert told.prototype_distance is not None
        shares[i] = np.bincount(told.prototype, minlength=len(names)) / max(1, len(loaded.bag))
        for p in np.unique(told.prototype).tolist():
            if _may_have(loaded, p // n, classes):
                rows = np.flatnonzero(told.prototype == p)
                row = int(rows[told.prototype_distance[rows].argmin()])
                tile = (float(told.prototype_distance[row]), loaded, row)
                found[names[p]].append(_Tile(*tile, float(told.tile_probability[row, p // n])))
    told_of = [names_in(loaded.label) for loaded in bags]
    rows = []
    for p, group in enumerate(names):
        for name in classes.names:
            of_class = shares[[name in told for told in told_of], p]
            share = of_class.mean() if len(of_class) else 0.0
            rows.append((p, group, name, f"{share:.6f}", int((of_class > 0).sum())))
    return found, pd.DataFrame(rows, columns=_SHARES)


def _names(learner: Learner) -> list[str]:
    """Name each prototype: by its class alone where it is the only one."""
    of_tiles, n = learner.classes.tile_names, learner.n_prototypes
    return (
        list(of_tiles) if n == 1 else [f"{of_tiles[p // n]} prototype {p}" for p in range(len(of_tiles) * n)]
    )


def _may_have(loaded: LoadedBag, c: int, classes: Classes) -> bool:
    """Whether tiles of a bag stand for tile class c: its label names it, or no label does (background)."""
    name = classes.tile_names[c]
    return name in names_in(loaded.label) or name not in classes.names


def _of_classes(fitted: Fitted, bags: Sequence[LoadedBag]) -> dict[str, list[_Tile]]:
    classes = fitted.learner.classes
    candidates: dict[str, list[_Candidates]] = {name: [] for name in classes.tile_names}
    for loaded in bags:
        probability = fitted.predict(loaded).tile_probability
        for c, name in enumerate(classes.tile_names):
            if _may_have(loaded, c, classes) and len(probability):
                candidates[name].append(_strongest(loaded, probability[:, c]))
    return {name: _most_typical(of_class) for name, of_class in candidates.items()}


def _strongest(loaded: LoadedBag, probability: np.ndarray) -> _Candidates:
    rows = np.argsort(-probability, kind="stable")[: min(_A_BAG, -(-len(probability) // _ONE_IN))]
    return _Candidates(loaded, rows, probability[rows], loaded.bag.features[rows].astype(np.float32))


def _most_typical(candidates: Sequence[_Candidates]) -> list[_Tile]:
    """Return of each bag the tile nearest to the mean of the more probable half of all."""
    if not candidates:
        return []
    features = np.concatenate([c.features for c in candidates])
    probability = np.concatenate([c.probability for c in candidates])
    among = probability >= np.median(probability)
    spread = features[among].std(axis=0) + 1e-6
    far = np.square((features - features[among].mean(axis=0)) / spread).mean(axis=1)
    far[~among] = np.inf
    ends = np.cumsum([len(c.rows) for c in candidates])[:-1]
    tiles = []
    for each, distances in zip(candidates, np.split(far, ends), strict=True):
        place = int(distances.argmin())
        row, p = int(each.rows[place]), float(each.probability[place])
        if np.isfinite(distances[place]):
            tiles.append(_Tile(float(distances[place]), each.bag, row, p))
    return tiles
