"""What a user drew on training slides: tiles of a known class, for the learner alone."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tiling import ConfigError, annotated_tiles, classified_regions, open_slide

from .bag_files import Bags
from .classes import Classes
from .cohort import CohortSlide


def load_annotations(
    folder: Path, slides: Sequence[CohortSlide], source: Bags, classes: Classes
) -> dict[str, np.ndarray]:
    """Return the candidates of the tiles of each slide that has `<slide_id>.geojson`: bool (N, T).

    A tile that lies in a region of a class by half of its area is of that class; where regions overlap,
    of one of theirs. Any other may be of any class, as far as `folder` knows. N rows of the grid.

    Raises:
        ConfigError: there is no folder, or it has nothing for any of the slides.
        FormatError: a file is damaged, or has a region outside the slide or of another class.
        SlideError: an annotated slide cannot be opened to ask where QuPath counts from.
    """
    found = {}
    for slide, path in find_annotations(folder, slides):
        grid = source.grid(slide.slide_id)
        with open_slide(slide.path, id=slide.slide_id, mpp=grid.mpp) as opened:
            corner = opened.shown_from_px
        covered = annotated_tiles(path, grid, classes.tile_names, shown_from_px=corner)
        is_annotated = covered.any(axis=1, keepdims=True)
        print(f"annotations: {int(is_annotated.sum())} tiles of {slide.slide_id}", file=sys.stderr)
        found[slide.slide_id] = covered | ~is_annotated
    return found


def check_annotations(folder: Path, slides: Sequence[CohortSlide], classes: Classes) -> None:
    """Read the regions of all slides and their classes, before there are tiles to lie in them.

    Raises:
        ConfigError: there is no folder, or it has nothing for any of the slides.
        FormatError: a file is damaged, or has a region of another class.
    """
    for _, path in find_annotations(folder, slides):
        classified_regions(path, classes.tile_names)


def find_annotations(folder: Path, slides: Sequence[CohortSlide]) -> list[tuple[CohortSlide, Path]]:
    """Return the slides that have `<slide_id>.geojson`, with the file.

    Raises:
        ConfigError: there is no folder, or it has nothing for any of the slides.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder", hint="name the folder of <slide_id>.geojson")
    paths = [(slide, folder / f"{slide.slide_id}.geojson") for slide in slides]
    found = [(slide, path) for slide, path in paths if path.is_file()]
    if not found:
        raise ConfigError(
            f"{folder}: has annotations for none of the {len(slides)} slides with a label",
            hint=f"name the files by slide, such as {slides[0].slide_id}.geojson",
        )
    return found
