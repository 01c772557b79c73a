"""The verbs `import` and `export`: tile coordinates of a whole run from and to other tools' folders."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from features import FeatureBag, load_features
from tiling import (
    COORDS_FORMATS,
    ConfigError,
    FormatError,
    TileGrid,
    export_grid,
    import_grid,
    load_grid,
    save_grid,
    slide_picture,
    stored_fingerprint,
)

from .batch import DONE, KEPT, NO_TISSUE, Outcome, each_slide
from .cohort import Cohort, CohortSlide
from .prepare import open_cohort_slide, summary, tell_slides
from .qc import qc
from .run_folder import Run

_THUMBNAIL_PX = 1024
_TILED = ("tiled", "extracted", "not extracted", NO_TISSUE)


def import_coords(
    folder: Path,
    cohort: Cohort,
    run: Run,
    format: str,
    *,
    tile_px: int | None = None,
    mpp: float | None = None,
) -> Outcome:
    """Take the grids of a cohort from another tool's files below `folder`; `qc` follows.

    A file belongs to the slide of its name: the slide's id, or the id's last part where that is unique.
    `tile_px` is the side of the patches, if not the files' own; `mpp` stands in where a slide states none.

    Raises:
        ConfigError: no such format, or `folder` holds no file of it.
    """
    ending = COORDS_FORMATS[format].ending
    owned = _by_slide(_files(folder, ending), folder, ending, cohort)
    run.begin(cohort)
    n_tiles: dict[str, int] = {}

    def work(slide: CohortSlide) -> str:
        found = _only(owned.get(slide.slide_id, []), slide.slide_id, folder)
        path = run.grid_path(slide.slide_id)
        with open_cohort_slide(slide, mpp) as opened:
            grid = import_grid(found, opened, format, tile_px=tile_px)
            is_kept = stored_fingerprint(path) == grid.fingerprint
            if not is_kept:
                seen = slide_picture(opened, _THUMBNAIL_PX)
                save_grid(grid, path, thumbnail=seen, reader=opened.reader)
        n_tiles[slide.slide_id] = len(grid)
        return (KEPT if is_kept else DONE) if len(grid) else NO_TISSUE

    outcome = each_slide(run, "import", cohort.slides, work)
    run.record_failures("cohort", cohort.failures)
    tell_slides(run, outcome, "tiled", n_tiles)
    run.note(
        "import", {"folder": folder, "format": format, "tile_px": tile_px, "mpp": mpp, **summary(outcome)}
    )
    qc(run)
    return outcome


def export_run(run: Run, folder: Path, format: str, *, encoder: str | None = None) -> Outcome:
    """Write the grids of a run, and features if an encoder is named, as another tool's files.

    They go below `folder`. Where that tool writes no file for a slide without tiles, none is written;
    with features, tiles that could not be read are left out, since no other tool's file can say so.

    Raises:
        ConfigError: there is no such format.
        FormatError: `run` is no run folder.
    """
    ending = COORDS_FORMATS[format].ending

    def work(slide: CohortSlide) -> str:
        grid, features = load_grid(run.grid_path(slide.slide_id)), None
        if encoder is not None:
            grid, features = _read_tiles(grid, load_features(run.features_path(encoder, slide.slide_id)))
        path = folder / "patches" / f"{slide.slide_id}{ending}"
        export_grid(grid, path, format, features=features, encoder=encoder or "")
        return DONE if len(grid) else NO_TISSUE

    outcome = each_slide(run, "export", run.cohort(*_TILED).slides, work)
    run.note("export", {"folder": folder, "format": format, "encoder": encoder, **summary(outcome)})
    return outcome


def _read_tiles(grid: TileGrid, bag: FeatureBag) -> tuple[TileGrid, np.ndarray]:
    """The tiles that were read, and their features."""
    if not np.array_equal(grid.coords, bag.coords):
        raise FormatError(
            f"{grid.slide_id}: its features are of other tiles than its grid has", hint="extract it again"
        )
    kept = ~bag.unreadable
    part = replace(grid, coords=grid.coords[kept], tissue_fraction=grid.tissue_fraction[kept])
    return part, bag.features[kept]


def _files(folder: Path, ending: str) -> list[Path]:
    found = [path for path in sorted(folder.rglob(f"*{ending}")) if not path.name.startswith(".")]
    if not found:
        raise ConfigError(
            f"{folder}: no file there ends in {ending}", hint="name the folder of coordinates, check --format"
        )
    return found


def _by_slide(files: list[Path], folder: Path, ending: str, cohort: Cohort) -> dict[str, list[Path]]:
    """The files of each slide: those whose path ends in its id, else those of a name that it alone has."""
    ids = {slide.slide_id for slide in cohort.slides}
    names = Counter(slide_id.rpartition("/")[2] for slide_id in ids)
    by_id: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for path in files:
        parts = path.relative_to(folder).as_posix().removesuffix(ending).split("/")
        tails = ("/".join(parts[k:]) for k in range(len(parts)))
        owner = next((tail for tail in tails if tail in ids), None)  # the longest, so "a/one" before "one"
        found = by_name.setdefault(parts[-1], []) if owner is None else by_id.setdefault(owner, [])
        found.append(path)
    owned = {}
    for slide_id in ids:
        name = slide_id.rpartition("/")[2]
        owned[slide_id] = by_id.get(slide_id) or (by_name.get(name, []) if names[name] == 1 else [])
    return owned


def _only(found: list[Path], slide_id: str, folder: Path) -> Path:
    if len(found) > 1:
        names = " and ".join(path.relative_to(folder).as_posix() for path in found[:2])
        raise FormatError(
            f"{slide_id}: could be {names} below {folder}", hint="name the folder of coordinates alone"
        )
    if not found:
        raise FormatError(
            f"{slide_id}: no coordinates of that name below {folder}",
            hint="name the file by the slide's id; CLAM and STAMP write none for a slide without tissue",
        )
    return found[0]
