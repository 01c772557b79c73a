"""The verbs `import` and `export`: tiles and features of a whole run from and to other tools' folders."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from features import (
    FEATURES_FORMATS,
    FeatureBag,
    OtherBag,
    export_bag,
    load_features,
    read_other_bag,
    save_other_bag,
)
from tiling import (
    COORDS_FORMATS,
    TileGrid,
    export_grid,
    import_grid,
    load_grid,
    save_grid,
    slide_picture,
    stored_fingerprint,
)

from .bag_files import BagFiles
from .batch import DONE, KEPT, WITHOUT_TILES, Outcome, each_slide, status_of
from .cohort import Cohort, CohortSlide
from .other_files import files_by_slide, only_file
from .prepare import open_cohort_slide, summary, tell_slides
from .qc import qc
from .run_folder import Run
from .with_features import with_features

_THUMBNAIL_PX = 1024
_WITH_TILES = ("tiled", "extracted", "not extracted")
_TILED = (*_WITH_TILES, *WITHOUT_TILES)


def import_coords(
    folder: Path,
    cohort: Cohort,
    run: Run,
    format: str,
    *,
    tile_px: int | None = None,
    tile_mpp: float | None = None,
    mpp: float | None = None,
) -> Outcome:
    """Take the grids of a cohort from another tool's files below `folder`; `qc` follows.

    A file belongs to the slide of its name: the slide's id, or the id's last part where that is unique.
    `tile_px` is the side of the patches, if not the files' own, and `tile_mpp` their resolution, if the
    files tell no sizes; `mpp` stands in where a slide states none.

    Raises:
        ConfigError: no such format, or `folder` holds no file of it.
    """
    owned = files_by_slide(folder, COORDS_FORMATS[format].endings, cohort)
    cohort = run.begin(cohort)
    n_tiles: dict[str, int] = {}

    def work(slide: CohortSlide) -> str:
        found = only_file(owned, slide.slide_id, folder)
        path = run.grid_path(slide.slide_id)
        with open_cohort_slide(slide, mpp) as opened:
            grid = import_grid(found, opened, format, tile_px=tile_px, tile_mpp=tile_mpp)
            is_kept = stored_fingerprint(path) == grid.fingerprint
            if not is_kept:
                seen = slide_picture(opened, _THUMBNAIL_PX)
                save_grid(grid, path, thumbnail=seen, reader=opened.reader)
        n_tiles[slide.slide_id] = len(grid)
        return status_of(grid, KEPT if is_kept else DONE)

    outcome = each_slide(run, "import", cohort.slides, work)
    run.record_failures("cohort", cohort.failures)
    tell_slides(run, outcome, "tiled", n_tiles)
    told = {"folder": folder, "format": format, "tile_px": tile_px, "tile_mpp": tile_mpp, "mpp": mpp}
    run.note("import", told | summary(outcome))
    qc(run)
    return outcome


def import_features(folder: Path, run: Run, format: str, *, encoder: str = "") -> Outcome:
    """Take the bags of a run's slides from another tool's files below `folder`; the grids are there already.

    They become bags of the encoder that the files name, or of `encoder`. A slide without tiles needs no
    file: its bag is empty, and as wide as the others.

    Raises:
        ConfigError: no such format, or `folder` holds no file of it.
    """
    slides = run.cohort(*_WITH_TILES).slides + run.cohort(*WITHOUT_TILES).slides
    owned = files_by_slide(folder, FEATURES_FORMATS[format].endings, Cohort(slides))
    known: list[OtherBag] = []

    def work(slide: CohortSlide) -> str:
        grid = load_grid(run.grid_path(slide.slide_id))
        if known and not len(grid) and not owned[slide.slide_id]:
            bag = replace(known[0], features=known[0].features[:0], corners=None)
        else:
            bag = read_other_bag(only_file(owned, slide.slide_id, folder), format, grid, encoder)
            known[:] = known or [replace(bag, features=bag.features[:1].copy())]
        is_new = save_other_bag(bag, grid, run.features_path(bag.encoder, slide.slide_id), format)
        return status_of(grid, DONE if is_new else KEPT)

    outcome = each_slide(run, "import features", slides, work)
    tell_slides(run, outcome, "extracted", {})
    told = {"folder": folder, "format": format, "encoder": encoder}
    run.note("import features", told | summary(outcome))
    return outcome


def export_run(run: Run, folder: Path, format: str, *, encoder: str | None = None) -> Outcome:
    """Write the grids of a run, and features if an encoder is named, as another tool's files.

    They go below `folder`. Where that tool writes no file for a slide without tiles, none is written;
    with features, tiles that could not be read are left out, since no other tool's file can say so.

    Raises:
        ConfigError: there is no such format.
        FormatError: `run` is no run folder, or no slide has features of `encoder`.
    """
    if encoder is not None:
        with_features(run, BagFiles(run, encoder), "export")  # one that no slide has is told once
    ending = COORDS_FORMATS[format].endings[0]

    def work(slide: CohortSlide) -> str:
        grid = load_grid(run.grid_path(slide.slide_id))
        if encoder is None:
            export_grid(grid, folder / "patches" / f"{slide.slide_id}{ending}", format)
        else:
            bag = load_features(run.features_path(encoder, slide.slide_id), grid=grid)
            part, features = _read_tiles(grid, bag)
            export_bag(folder, format, part, features, encoder)
        return status_of(grid, DONE)

    outcome = each_slide(run, "export", run.cohort(*_TILED).slides, work)
    run.note("export", {"folder": folder, "format": format, "encoder": encoder, **summary(outcome)})
    return outcome


def _read_tiles(grid: TileGrid, bag: FeatureBag) -> tuple[TileGrid, np.ndarray]:
    """The tiles that were read, and their features."""
    kept = ~bag.unreadable
    part = replace(grid, coords=grid.coords[kept], tissue_fraction=grid.tissue_fraction[kept])
    return part, bag.features[kept]
