"""What is known of the tiles of a run's slides, from masks or drawn regions, beside what was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mil.cohort import CohortSlide
from mil.predictions import rows_by_slide
from mil.run_folder import Run
from mil.scores import Scores, load_scores
from mil.truth_masks import load_truth_mask, positive_tiles
from tiling import (
    ConfigError,
    FormatError,
    SlidebagError,
    TileGrid,
    annotated_tiles,
    load_grid,
    open_slide,
    side_level0_px,
)

from .froc import SlideDetections, local_maxima


@dataclass(frozen=True)
class SlideTruth:
    """The n read tiles of a slide: `score` float64 (n,) of "positive, of whichever class", and the truth.

    `truth` bool (n, T - 1) by positive class, of a mask (n, 1) of any of them; `by_class` float64 (n, T - 1)
    are their scores. `threshold` is the tile threshold of the slide's model.
    """

    slide_id: str
    patient: str
    score: np.ndarray
    by_class: np.ndarray
    truth: np.ndarray
    threshold: float
    detections: SlideDetections

    @property
    def is_positive(self) -> np.ndarray:
        """Whether each tile is of any positive class, bool (n,)."""
        return np.asarray(self.truth.any(axis=1))


@dataclass(frozen=True)
class TileTruths:
    """The slides whose truth is known, the positive classes, and why others are left out, by slide."""

    slides: tuple[SlideTruth, ...]
    classes: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def load_truth(run: Run, masks: Path | None = None, annotations: Path | None = None) -> TileTruths:
    """Return the truth of the tiles of a run's predicted slides.

    `masks` holds `<slide_id>.png` as `evaluate` takes them, `annotations` `<slide_id>.geojson` as `train`
    does. What is not drawn in a slide that has a file is negative, and so is all of a slide without a file
    that is labelled negative; other slides without a file, and files that cannot be used, are left out.

    Raises:
        FormatError: the run has no predictions.
        ConfigError: a folder is not there, or has no file for any of the slides.
    """
    own = {slide.slide_id: slide for slide in run.cohort().slides}
    rows = dict(sorted(rows_by_slide(run, "label", "tile_threshold").items()))
    for folder, suffix in ((masks, ".png"), (annotations, ".geojson")):
        if folder is not None:
            _check_folder(folder, suffix, list(rows))
    slides, left_out, classes = [], {}, ()
    for slide_id, row in rows.items():
        try:
            grid = load_grid(run.grid_path(slide_id))
            scores = load_scores(run.scores_path(slide_id), grid=grid)
            if slide_id not in own:
                raise FormatError(f"{slide_id}: is not in the run's slides.csv")
            truth, areas = _known(own[slide_id], row["label"], grid, scores.classes, masks, annotations)
        except SlidebagError as error:
            left_out[slide_id] = error.message
            continue
        classes = scores.classes[1:]
        patient = own[slide_id].patient_id or slide_id
        slides.append(_slide(grid, scores, truth, areas, patient, float(row["tile_threshold"])))
    return TileTruths(tuple(slides), classes, left_out)


def _check_folder(folder: Path, suffix: str, slide_ids: Sequence[str]) -> None:
    """A misspelt folder or name is told at once, not by a page without figures."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder", hint=f"name the folder of <slide_id>{suffix}")
    if slide_ids and not any((folder / f"{slide_id}{suffix}").is_file() for slide_id in slide_ids):
        raise ConfigError(
            f"{folder}: has no {suffix} file for any of the {len(slide_ids)} predicted slides",
            hint=f"name the files by slide, such as {slide_ids[0]}{suffix}",
        )


def _known(
    slide: CohortSlide, label: str, grid: TileGrid, classes: Sequence[str], masks: Path | None,
    annotations: Path | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The positive tiles, bool (N, T - 1) or (N, 1), and cells of half a tile, bool (rows, columns)."""
    slide_id, (cells, shape) = slide.slide_id, _cells(grid)
    if masks and (path := masks / f"{slide_id}.png").is_file():
        mask = load_truth_mask(path)
        tiles, areas = (positive_tiles(g, mask) for g in (grid, cells))
        return tiles[:, None], areas.reshape(shape)
    if annotations and (path := annotations / f"{slide_id}.geojson").is_file():
        with open_slide(slide.path, id=slide_id, mpp=grid.mpp) as opened:
            corner = opened.shown_from_px
        tiles, areas = (annotated_tiles(path, g, classes, shown_from_px=corner)[:, 1:] for g in (grid, cells))
        return tiles, np.asarray(areas.any(axis=1)).reshape(shape)
    if label and label == classes[0]:
        return np.zeros((len(grid), 1), bool), np.zeros(shape, bool)
    raise FormatError(f"{slide_id}: no file says where it is positive")


def _cells(grid: TileGrid) -> tuple[TileGrid, tuple[int, int]]:
    """A grid of cells of half a tile over the whole slide, row by row, and its (rows, columns)."""
    config = replace(grid.config, tile_px=max(1, grid.config.tile_px // 2), overlap_px=0)
    side = side_level0_px(replace(grid, config=config))
    columns, rows = (int(np.ceil(size / side)) for size in grid.size_level0_px)
    y, x = np.divmod(np.arange(rows * columns), columns)
    coords = np.round(np.stack([x, y], axis=1) * side).astype(np.int64)
    nothing = np.zeros(len(coords), np.float32)
    return replace(grid, coords=coords, tissue_fraction=nothing, config=config), (rows, columns)


def _slide(
    grid: TileGrid, scores: Scores, truth: np.ndarray, areas: np.ndarray, patient: str, threshold: float
) -> SlideTruth:
    by_class = scores.probability[:, 1:].astype(np.float64)
    read = ~np.isnan(by_class).any(axis=1)
    score = by_class[read].sum(axis=1)
    detections = detect(
        grid.coords[read], side_level0_px(grid), score, areas, side_level0_px(_cells(grid)[0]), patient
    )
    return SlideTruth(grid.slide_id, patient, score, by_class[read], truth[read], threshold, detections)


def detect(
    coords: np.ndarray, side: float, score: np.ndarray, areas: np.ndarray, cell: float, patient: str
) -> SlideDetections:
    """Return what the detections of a slide find of the lesions, and what is false (see `mil.report.froc`).

    `coords` (n, 2) and `side` are the tiles' in level-0 pixels, `score` (n,); `areas` bool (rows, columns)
    says of each cell of `cell` level-0 pixels whether it is positive. Cells that touch by an edge or a corner
    are one lesion.
    """
    from scipy.ndimage import label  # slow to import

    labelled: Any = label(areas, structure=np.ones((3, 3)))
    lesions, n_lesions = labelled
    best, false = np.full(n_lesions, -np.inf), []
    for row in local_maxima(coords + side / 2, side, score):
        # a pixel less on each side: corners are rounded
        x0, y0 = np.floor((coords[row] + 1) / cell).astype(int)
        x1, y1 = np.ceil((coords[row] + side - 1) / cell).astype(int)
        found = np.unique(lesions[y0:y1, x0:x1])
        found = found[found > 0] - 1
        if len(found):
            best[found] = np.maximum(best[found], score[row])
        else:
            false.append(score[row])
    return SlideDetections(patient, best, np.array(false, np.float64))
