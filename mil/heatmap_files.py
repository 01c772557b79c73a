"""The files of one slide's heatmaps, made from its stored scores and kept while they are still right."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from features import refuse_other_file
from tiling import (
    ConfigError,
    Heatmap,
    Legend,
    OverlayConfig,
    Slide,
    SlidebagError,
    TileGrid,
    dicom_fingerprint,
    fingerprint,
    geojson_fingerprint,
    hot_regions,
    ome_fingerprint,
    open_slide,
    overlay,
    paint,
    picture_fingerprint,
    region_tolerance_um,
    smooth,
    write_blended,
    write_dicom_heatmap,
    write_geojson,
    write_ome_heatmap,
    write_picture,
    write_region_table,
    write_regions,
    write_zarr_heatmap,
    zarr_fingerprint,
)

from .overlay_files import shown_fingerprint, slide_prediction
from .scores import Scores
from .top_tiles import write_top_tiles

_MOST_SMOOTH_UM = 5000  # beyond that little is left but the slide's mean


@dataclass(frozen=True, kw_only=True)
class HeatmapConfig:
    """Which heatmaps are written."""

    format: tuple[str, ...] = field(
        default=("png", "geojson", "regions", "top-tiles", "ome-tiff"),
        metadata={"help": "what to write, also blended, ome-zarr, dicom"},
    )
    smooth_um: float = field(
        default=0.0, metadata={"help": "smooth the scores over the tissue by a Gaussian of this deviation"}
    )
    region_tolerance_um: float | None = field(
        default=None,
        metadata={"help": "how far a region's border may be simplified, at most a quarter of a tile"},
    )

    def __post_init__(self) -> None:
        if not self.format:
            raise ConfigError("no heatmap format is given", hint=f"choose from {', '.join(FORMATS)}")
        for name in self.format:
            if name not in FORMATS:
                raise ConfigError(
                    f"unknown heatmap format {name!r}", hint=f"choose from {', '.join(FORMATS)}"
                )
        if not 0 <= self.smooth_um <= _MOST_SMOOTH_UM:
            raise ConfigError(
                f"smooth_um is {self.smooth_um:g}", hint=f"give up to {_MOST_SMOOTH_UM:g} µm, or 0 for none"
            )
        if self.region_tolerance_um is not None and not self.region_tolerance_um >= 0:
            raise ConfigError(f"region_tolerance_um is {self.region_tolerance_um:g}", hint="give 0 or more")


@dataclass(frozen=True)
class Painting:
    """What the heatmaps of one slide are made from: a row of predictions.csv, tiles, scores."""

    folder: Path
    slide_path: Path
    row: dict[str, str]
    grid: TileGrid
    scores: Scores
    overlay: OverlayConfig
    config: HeatmapConfig

    @cached_property
    def slide(self) -> Slide:
        """The slide, opened where it is first needed; raises SlideError where it is not the tiled file."""
        grid = self.grid
        with ExitStack() as opened:
            slide = opened.enter_context(open_slide(self.slide_path, id=grid.slide_id, mpp=grid.mpp))
            refuse_other_file(slide, grid)
            opened.pop_all()  # it stays open, until `close`
        return slide

    def close(self) -> None:
        """Let go of the slide."""
        if "slide" in vars(self):
            self.slide.close()

    @property
    def threshold(self) -> float:
        """The probability of all positive classes together from which a tile counts as positive."""
        return float(self.row["tile_threshold"])

    @cached_property
    def fingerprint(self) -> str:
        """What the files depend on: what they show, and behind a dash how."""
        how = self.config.smooth_um, self.config.region_tolerance_um
        return f"{shown_fingerprint(self.scores.fingerprint, self.row)}-{fingerprint(*how, self.overlay)}"

    @cached_property
    def heatmaps(self) -> dict[str, Heatmap]:
        """The heatmap of each class that a tile can show evidence of."""
        columns = enumerate(self.scores.classes[1:], 1)
        return {name: self._painted(self.scores.probability[:, number]) for number, name in columns}

    @cached_property
    def together(self) -> Heatmap:
        """The heatmap of all these classes together, which the threshold is for."""
        if len(self.heatmaps) == 1:
            return next(iter(self.heatmaps.values()))
        return self._painted(self.scores.probability[:, 1:].sum(axis=1))

    def _painted(self, scores: np.ndarray) -> Heatmap:
        return smooth(paint(self.grid, scores), self.config.smooth_um / self.grid.mpp)

    def path_of_each(self, stem: str, suffix: str) -> list[tuple[str, Path]]:
        """Return each class that has a heatmap with the place of a file about it."""
        names = self.scores.classes[1:]
        marks = [""] if len(names) == 1 else [f"-{number}" for number in range(1, len(names) + 1)]
        return [(n, self.folder / f"{stem}{mark}{suffix}") for n, mark in zip(names, marks, strict=True)]

    @property
    def region_tolerance_um(self) -> float:
        """By how many µm a region's border may move: a smoothed one has no steps of tiles to leave out."""
        asked, most = self.config.region_tolerance_um, region_tolerance_um(self.grid)
        if asked is None and self.config.smooth_um > 0:
            return min(most, self.together.px_level0 * self.grid.mpp)
        return region_tolerance_um(self.grid, asked)

    def remove_others(self, stem: str, suffix: str) -> None:
        """Remove such files of a time when there was another number of classes."""
        own = [path for _, path in self.path_of_each(stem, suffix)]
        for path in self.folder.glob(f"{stem}*{suffix}"):
            mark = path.name.removeprefix(stem).removesuffix(suffix)
            if path not in own and re.fullmatch(r"(-\d+)?", mark):
                path.unlink()

    @property
    def about(self) -> dict[str, str]:
        """What files say of themselves."""
        return {
            "threshold": self.row["tile_threshold"],
            "threshold is of": " + ".join(f"p({name})" for name in self.heatmaps),
            "smoothed": f"Gaussian, {self.config.smooth_um:g} µm" if self.config.smooth_um else "no",
        }


def write_formats(painting: Painting) -> bool:
    """Write the formats that are asked for; return whether any had to be made anew.

    One that fails does not keep the others from being written; then the first one's SlidebagError is raised.
    """
    is_new, failed = False, None
    for name in dict.fromkeys(painting.config.format):
        try:
            is_new |= FORMATS[name](painting)
        except SlidebagError as error:
            failed = failed or error
    if failed:
        raise failed
    return is_new


def _write_each(
    file: tuple[str, str],
    fingerprint_of: Callable[[Path], str | None],
    write: Callable[[Painting, str, Path], None],
    painting: Painting,
) -> bool:
    """Write a file (stem, suffix) for each class that has a heatmap; return whether any was written."""
    painting.remove_others(*file)
    old = [(n, p) for n, p in painting.path_of_each(*file) if fingerprint_of(p) != painting.fingerprint]
    for name, path in old:
        write(painting, name, path)
    return bool(old)


def _write_overlay(painting: Painting, name: str, path: Path) -> None:
    legend = Legend(
        class_name=name,
        threshold=painting.threshold,
        is_threshold_of_all=len(painting.heatmaps) > 1,
        prediction=slide_prediction(painting.row, name),
        smooth_um=painting.config.smooth_um,
    )
    picture = overlay(
        painting.slide,
        painting.heatmaps[name],
        legend,
        together=painting.together,
        tissue_polygons=painting.grid.tissue_polygons,
        config=painting.overlay,
    )
    write_picture(path, picture, fingerprint=painting.fingerprint, about=painting.grid.slide_id)


def _write_tiles(painting: Painting) -> bool:
    path = painting.folder / "tiles.geojson"
    if geojson_fingerprint(path) == painting.fingerprint:
        return False
    scores = painting.scores
    write_geojson(
        path, painting.grid, scores.probability, scores.classes,
        fingerprint=painting.fingerprint, threshold=painting.threshold,
        shown_from_px=painting.slide.shown_from_px,
    )  # fmt: skip
    return True


def _write_regions(painting: Painting) -> bool:
    path, table = painting.folder / "regions.geojson", painting.folder / "regions.csv"
    if table.exists() and geojson_fingerprint(path) == painting.fingerprint:
        return False
    grid, tolerance_um = painting.grid, painting.region_tolerance_um
    told = painting.about | {"tolerance_um": tolerance_um}
    regions = hot_regions(
        grid, painting.heatmaps, painting.together, painting.threshold, tolerance_um=tolerance_um
    )
    write_region_table(table, grid, regions, painting.heatmaps)  # first: the other's fingerprint is of both
    write_regions(
        path, grid, regions,
        fingerprint=painting.fingerprint, told=told, shown_from_px=painting.slide.shown_from_px,
    )  # fmt: skip
    return True


def _write_top_tiles(painting: Painting) -> bool:
    table, sheets = painting.folder / "top_tiles.csv", painting.path_of_each("top_tiles", ".png")
    painting.remove_others("top_tiles", ".png")
    if table.exists() and all(picture_fingerprint(path) == painting.fingerprint for _, path in sheets):
        return False
    write_top_tiles(
        table, sheets, painting.slide, painting.grid, painting.scores, painting.threshold,
        fingerprint=painting.fingerprint,
    )  # fmt: skip
    return True


def _write_channels(
    name: str, fingerprint_of: Callable[[Path], str | None], write: Callable[..., None], painting: Painting
) -> bool:
    """Write one file of all classes' heatmaps."""
    path, grid = painting.folder / name, painting.grid
    if fingerprint_of(path) == painting.fingerprint:
        return False
    write(
        path, painting.heatmaps, grid.mpp,
        slide_id=grid.slide_id, fingerprint=painting.fingerprint, about=painting.about,
    )  # fmt: skip
    return True


def _write_blended(painting: Painting, name: str, path: Path) -> None:
    write_blended(
        path, painting.slide, painting.heatmaps[name],
        opacity=painting.overlay.opacity, fingerprint=painting.fingerprint,
        about={"colours": f"p({name}), 0 dark violet to 1 yellow; none: not scored", **painting.about},
    )  # fmt: skip


def _write_dicom(painting: Painting) -> bool:
    path = painting.folder / "heatmap.dcm"
    if dicom_fingerprint(path) == painting.fingerprint:
        return False
    write_dicom_heatmap(path, painting.slide, painting.heatmaps, fingerprint=painting.fingerprint)
    return True


FORMATS: dict[str, Callable[[Painting], bool]] = {
    "png": partial(_write_each, ("overlay", ".png"), picture_fingerprint, _write_overlay),
    "geojson": _write_tiles,
    "regions": _write_regions,
    "top-tiles": _write_top_tiles,
    "ome-tiff": partial(_write_channels, "heatmap.ome.tiff", ome_fingerprint, write_ome_heatmap),
    "blended": partial(_write_each, ("blended", ".ome.tiff"), ome_fingerprint, _write_blended),
    "ome-zarr": partial(_write_channels, "heatmap.ome.zarr", zarr_fingerprint, write_zarr_heatmap),
    "dicom": _write_dicom,
}
