"""A picture by which a person sees whether a slide was tiled well: its tissue, its tiles, its figures."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from .files import fingerprint
from .grid import TileGrid
from .grid_file import load_grid
from .grid_summary import GridSummary, load_summary, load_thumbnail
from .heatmap import side_level0_px
from .legend import Colour, Panel
from .lettering import can_draw
from .overlay import beside, draw_outline
from .picture_file import write_picture

_LOOK = 1  # to be raised when pictures are to look otherwise: they are then made again
_LONGEST_PX, _SMALL_PX = 1024, 700
_EM_PX = 16.0
_MARGIN_PX = 18
# (tiles, tissue) on bright and on dark slides: no stain has these colours, and they differ in lightness too
_COLOURS: dict[str, tuple[Colour, Colour]] = {
    "bright": ((0, 114, 178), (0, 0, 0)),
    "dark": ((86, 180, 233), (240, 228, 66)),
}
_LATTICE_SHARES = (0.35, 0.9)  # how much a line between two tiles covers: the more, the fewer there are
_LEAST_TILE_PX, _LARGE_TILE_PX = 5, 60  # smaller ones are not drawn one by one: the slide would be hidden
_AREA_SHARE = 0.25
_PAPER = 255


def qc_fingerprint(summary: GridSummary) -> str:
    """Return the fingerprint that the picture of a tiled slide will have, without making it."""
    return fingerprint("qc", _LOOK, summary.fingerprint, summary.reader, *filter(None, [summary.quality]))


def write_qc_picture(path: Path, grid_path: Path) -> None:
    """Write as PNG the picture of the slide whose grid is in `grid_path`; the slide itself is not read.

    Raises:
        FormatError: there is no readable grid.
    """
    summary = load_summary(grid_path)
    picture = qc_picture(load_grid(grid_path), load_thumbnail(grid_path), summary)
    write_picture(path, picture, fingerprint=qc_fingerprint(summary), about=summary.slide_id)


def qc_picture(grid: TileGrid, thumbnail: np.ndarray | None, summary: GridSummary) -> Image.Image:
    """Return a slide with its tissue's outline and its tiles, and a panel of figures beside it, in RGB.

    `thumbnail` (H, W, 3) uint8 shows the whole slide; without one the paper is white.
    """
    tiles, tissue = _COLOURS[_background(summary)]
    painted = _fit(thumbnail, grid.size_level0_px)
    draw_tiles(painted, grid, tiles)
    draw_outline(painted, grid.tissue_polygons, grid.size_level0_px, 1, tissue)
    panel = Panel(_EM_PX)
    _tell(panel, summary)
    panel.line_key("tissue outline", tissue, 2)
    panel.line_key("tiles", tiles, 2)
    height, width = painted.shape[:2]
    panel.end_with_scale(grid.mpp * grid.size_level0_px[0] / width, height)
    return beside(Image.fromarray(painted), panel.image, _MARGIN_PX)


def small_picture(
    grid: TileGrid, thumbnail: np.ndarray | None, box_px: tuple[int, int], summary: GridSummary
) -> Image.Image:
    """Return the slide with its tissue's outline, as large as fits `box_px` (width, height), in RGB."""
    width, height = grid.size_level0_px
    scale = min(box_px[0] / width, box_px[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    painted = _resized(_fit(thumbnail, grid.size_level0_px), size)
    draw_outline(painted, grid.tissue_polygons, grid.size_level0_px, 1, _COLOURS[_background(summary)][1])
    return Image.fromarray(painted)


def draw_tiles(painted: np.ndarray, grid: TileGrid, colour: Colour) -> None:
    """Draw the tiles' borders onto a picture (H, W, 3) uint8 of the whole slide, in place.

    Where a tile is only a few pixels wide, the area of all is tinted and framed instead.
    """
    if not len(grid):
        return
    scale = np.divide(painted.shape[1::-1], grid.size_level0_px)
    first = np.rint(grid.coords * scale).astype(int)
    last = np.rint((grid.coords + side_level0_px(grid)) * scale).astype(int)
    for axis in (0, 1):  # neighbours share a line, also where rounding puts it a pixel apart
        near = last[:, axis, None] + (0, -1, 1)
        last[:, axis] = near[np.arange(len(near)), np.isin(near, first[:, axis]).argmax(axis=1)]
    lines, area = (np.zeros(painted.shape[:2], np.uint8) for _ in range(2))
    for a, b in zip(first.tolist(), last.tolist(), strict=True):
        cv2.rectangle(lines, a, b, 1)
        cv2.rectangle(area, a, b, 1, cv2.FILLED)
    side_px = float((last - first).mean())
    share = float(np.interp(side_px, (_LEAST_TILE_PX, _LARGE_TILE_PX), _LATTICE_SHARES))
    inside, share = (lines, share) if side_px >= _LEAST_TILE_PX else (area, _AREA_SHARE)
    edge = area - cv2.erode(area, np.ones((3, 3), np.uint8), borderValue=0)
    for where, opacity in ((inside, share), (edge, 1.0)):
        chosen = where.astype(bool)
        painted[chosen] = np.rint(painted[chosen] * (1 - opacity) + np.array(colour) * opacity)


def _background(summary: GridSummary) -> str:
    return summary.quality.background if summary.quality else "bright"


def _fit(thumbnail: np.ndarray | None, size_level0_px: tuple[int, int]) -> np.ndarray:
    """The picture to draw on, its longer side not too small for lines and not above 1,024 px."""
    if thumbnail is None:
        scale = _LONGEST_PX / max(size_level0_px)
        width, height = (max(1, round(side * scale)) for side in size_level0_px)
        return np.full((height, width, 3), _PAPER, np.uint8)
    longest = max(thumbnail.shape[:2])
    if _SMALL_PX <= longest <= _LONGEST_PX:
        return thumbnail.copy()
    height, width = (max(1, round(side * _LONGEST_PX / longest)) for side in thumbnail.shape[:2])
    return _resized(thumbnail, (width, height))


def _resized(pixels: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    way = cv2.INTER_AREA if size_px[0] < pixels.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(pixels, size_px, interpolation=way)


def _tell(panel: Panel, summary: GridSummary) -> None:
    um, quality = ("µm" if can_draw("µ") else "um"), summary.quality
    width, height = summary.size_level0_px
    panel.heading("Slide", summary.slide_id)
    if quality:
        panel.heading("Tissue", f"{quality.tissue_mm2:.3g} mm²")
    panel.heading("Tiles", f"{summary.n_tiles:,} of {summary.tile_px} px at {summary.tile_mpp:.4g} {um}/px")
    panel.heading("Resolution", f"{summary.mpp:.4g} {um}/px, from {summary.mpp_source}")
    panel.heading("Size", f"{width:,} x {height:,} px")
    panel.heading(
        "Extent", " x ".join(f"{side * summary.mpp / 1000:.3g}" for side in (width, height)) + " mm"
    )
    if summary.reader:
        panel.heading("Reader", summary.reader)
    if quality:
        panel.heading("Focus", f"{quality.focus:.2g}")
        panel.heading("Stain" if quality.background == "bright" else "Light", f"{quality.stain_strength:.2g}")
        panel.heading("Ink", f"{quality.pen_fraction:.1%} of the slide")
