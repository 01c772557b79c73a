"""The training tiles that a model takes for most typical of each class, as pictures beside it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tiling import replacing_folder

from .bags import Bags, LoadedBag, SlideGroup
from .classes import names_in
from .predictions import Fitted
from .run_folder import Run
from .tile_pictures import tile_pictures

FOLDER = "typical"
_ONE_IN, _A_BAG, _SHOWN = 10, 20, 6  # candidates: a tenth of a bag, 20 at most; pictures of a group
_COLUMNS = ["group", "rank", "slide_id", "row", "x", "y", "probability", "picture", "message"]


@dataclass(frozen=True)
class _Candidates:
    """The strongest tiles of one bag for one group, with the features that they are compared by."""

    bag: LoadedBag
    rows: np.ndarray
    probability: np.ndarray
    features: np.ndarray


def write_typical_tiles(
    folder: Path, fitted: Fitted, run: Run, source: Bags, groups: Sequence[SlideGroup],
    bags: Sequence[LoadedBag],
) -> pd.DataFrame:  # fmt: skip
    """Write `typical/` into a model's folder and return its table (columns as in formats.md).

    Typical of a class are the tiles nearest to the mean of its most probable ones in the bags that may
    have it, one a bag; and of each prototype, where a learner has more of them than classes. A slide
    that cannot be read any more leaves a message in place of the picture.
    """
    chosen = [
        _row(group, rank, candidate, place)
        for group, candidates in _groups(fitted, bags).items()
        for rank, (candidate, place) in enumerate(_most_typical(candidates), 1)
    ]
    by_id = {slide.slide_id: slide for group in groups for slide in group.slides}
    with replacing_folder(folder / FOLDER) as temporary:
        for slide_id in sorted({row["slide_id"] for row in chosen}):
            of_slide = [row for row in chosen if row["slide_id"] == slide_id]
            grid, rows = source.grid(slide_id), sorted({row["row"] for row in of_slide})
            found = tile_pictures(run, source.encoder, by_id[slide_id], grid, rows)
            pictures = dict(zip(rows, found, strict=True))
            for row in of_slide:
                row["x"], row["y"] = grid.coords[row["row"]].tolist()
                _save(temporary, row, pictures[row["row"]])
        table = pd.DataFrame(chosen, columns=_COLUMNS)
        table.to_csv(temporary / "typical.csv", index=False)
    return table


def _row(group: str, rank: int, candidate: _Candidates, place: int) -> dict[str, Any]:
    slide_id, row = candidate.bag.place(int(candidate.rows[place]))
    return {
        "group": group,
        "rank": rank,
        "slide_id": slide_id,
        "row": row,
        "probability": f"{candidate.probability[place]:.6f}",
    }


def _save(folder: Path, row: dict[str, Any], picture: Image.Image | str) -> None:
    """Write the picture of one tile, or say in its row why there is none."""
    row["picture"], row["message"] = "", ""
    if isinstance(picture, str):
        row["message"] = picture
        return
    row["picture"] = f"{re.sub('[^A-Za-z0-9.-]', '_', row['group'])}-{row['rank']}.jpg"
    picture.save(folder / row["picture"], quality=85)


def _groups(fitted: Fitted, bags: Sequence[LoadedBag]) -> dict[str, list[_Candidates]]:
    classes = fitted.learner.classes
    groups: dict[str, list[_Candidates]] = {name: [] for name in classes.tile_names}
    of_prototypes: dict[str, list[_Candidates]] = {}
    for loaded in bags:
        told = fitted.predict(loaded)
        for c, name in enumerate(classes.tile_names):
            if name in names_in(loaded.label) or name not in classes.names:
                groups[name].append(_strongest(loaded, told.tile_probability[:, c]))
        for k in np.unique(told.prototype[told.prototype >= 0]).tolist():
            own = np.where(told.prototype == k, told.tile_probability.max(axis=1), -1)
            of_prototypes.setdefault(f"prototype {k}", []).append(_strongest(loaded, own))
    return groups | (of_prototypes if len(of_prototypes) > len(groups) else {})


def _strongest(loaded: LoadedBag, probability: np.ndarray) -> _Candidates:
    rows = np.argsort(-probability, kind="stable")[: min(_A_BAG, -(-len(probability) // _ONE_IN))]
    rows = rows[probability[rows] >= 0]
    return _Candidates(loaded, rows, probability[rows], loaded.bag.features[rows].astype(np.float32))


def _most_typical(candidates: Sequence[_Candidates]) -> list[tuple[_Candidates, int]]:
    """The nearest to the mean of the more probable half, one a bag."""
    candidates = [c for c in candidates if len(c.rows)]
    if not candidates:
        return []
    features = np.concatenate([c.features for c in candidates])
    probability = np.concatenate([c.probability for c in candidates])
    among = probability >= np.median(probability)
    spread = features[among].std(axis=0) + 1e-6
    far = np.square((features - features[among].mean(axis=0)) / spread).mean(axis=1)
    far[~among] = np.inf
    ends = np.cumsum([len(c.rows) for c in candidates])[:-1]
    best = [
        (each.min(), c, int(each.argmin())) for c, each in zip(candidates, np.split(far, ends), strict=True)
    ]
    best = sorted((b for b in best if np.isfinite(b[0])), key=lambda b: b[0])
    return [(c, place) for _, c, place in best[:_SHOWN]]
