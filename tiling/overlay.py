"""A heatmap over its slide as a picture, with a legend that says which class and which scale."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image

from .errors import ConfigError
from .heatmap import Heatmap
from .legend import Colour, Legend, Panel, heat_colours, length_text, probability_text
from .slide import Slide

_EM, _LEAST_EM_PX = 0.016, 14.0  # text size, of the picture's longer side; smaller cannot be read
_MARGIN_EM = 1.2
_FAINTEST = 0.15  # opacity at score 0: a scored tile differs from one that was not scored
_OUTLINE, _REGION, _BORDER, _PAPER = (80, 80, 86), (0, 0, 0), (200, 200, 204), (255, 255, 255)
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, kw_only=True)
class OverlayConfig:
    """How an overlay is drawn."""

    longest_px: int = field(default=2000, metadata={"help": "longer side of the slide in the overlay"})
    opacity: float = field(default=0.65, metadata={"help": "opacity of a tile of probability 1"})

    def __post_init__(self) -> None:
        if not 100 <= self.longest_px <= 20_000:
            raise ConfigError(f"longest_px is {self.longest_px}", hint="give 100 to 20000")
        if not _FAINTEST <= self.opacity <= 1:
            raise ConfigError(f"opacity is {self.opacity:g}", hint=f"give {_FAINTEST:g} to 1")


def overlay(
    slide: Slide,
    heatmap: Heatmap,
    legend: Legend,
    *,
    together: Heatmap | None = None,
    tissue_polygons: Mapping | None = None,
    config: OverlayConfig | None = None,
) -> Image.Image:
    """Return the slide with its heatmap over it and a legend panel at the right, in RGB.

    Where no tile has a score the slide is unchanged, but for the thin outline of `tissue_polygons`
    (GeoJSON MultiPolygon in level-0 pixels). Framed is where `together`, of all positive classes, is at
    or above the legend's threshold; it is the heatmap itself if not given.

    Raises:
        ResolutionError: the slide states no resolution.
        ValueError: a heatmap is of a slide of another size.
    """
    config = config or OverlayConfig()
    together = together or heatmap
    for each in (heatmap, together):
        if tuple(each.size_level0_px) != tuple(slide.size_px):
            sizes = f"{each.size_level0_px} px, this one is {slide.size_px} px"
            raise ValueError(f"{slide.id}: the heatmap is of a slide of {sizes}")
    picture = slide_picture(slide, config.longest_px)
    height, width = picture.shape[:2]
    values = heatmap.resampled((width, height))
    em_px = max(_LEAST_EM_PX, _EM * max(width, height))
    outline_px, frame_px = max(1, round(em_px / 32)), max(1, round(em_px / 10))
    painted = tint(picture, values, config.opacity)
    panel = Panel(em_px)
    _tell_scores(panel, slide.id, legend, _bar_colours(picture, values, config.opacity))
    if legend.threshold is not None:
        _frame(painted, together.resampled((width, height)) >= legend.threshold, frame_px)
        panel.line_key(legend.threshold_text, _REGION, frame_px)
    if tissue_polygons is not None:
        draw_outline(painted, tissue_polygons, slide.size_px, outline_px)
        panel.line_key("tissue outline", _OUTLINE, outline_px)
    panel.blank_key("no colour: not scored")
    panel.end_with_scale(slide.mpp * slide.size_px[0] / width, height)
    return beside(Image.fromarray(painted), panel.image, round(_MARGIN_EM * em_px))


def slide_picture(slide: Slide, longest_px: int) -> np.ndarray:
    """Return the whole slide, its longer side `longest_px` or less, as uint8 (H, W, 3).

    Raises:
        ResolutionError: the slide states no resolution.
    """
    scale = min(longest_px / max(slide.size_px), 1.0)
    width, height = (max(1, round(side * scale)) for side in slide.size_px)
    level = slide.thumbnail(slide.mpp / scale)
    return cv2.resize(level, (width, height), interpolation=cv2.INTER_AREA)


def tint(picture: np.ndarray, values: np.ndarray, opacity: float) -> np.ndarray:
    """Return `picture` uint8 (H, W, 3) tinted by `values` (H, W) in 0 to 1, unchanged where NaN.

    Colours run from dark violet over green to yellow, ever brighter, which readers with any kind of
    colour vision can order; opacity grows with the value, up to `opacity`.
    """
    painted = np.array(picture)
    is_scored = ~np.isnan(values)
    if not is_scored.any():
        return painted
    share, colours = tint_shares(values[is_scored], opacity)
    share = share[:, None]
    painted[is_scored] = np.rint(picture[is_scored] * (1 - share) + colours * share)
    return painted


def tint_shares(values: np.ndarray, opacity: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the opacity (n,) and the colour uint8 (n, 3) of values (n,) without NaN; see `tint`."""
    values = np.clip(values, 0, 1)
    colours = heat_colours()[np.rint(values * 255).astype(np.uint8)]
    # The root lifts the middle, whose colours are near those of stained tissue
    return _FAINTEST + (opacity - _FAINTEST) * np.sqrt(values), colours


def _bar_colours(picture: np.ndarray, values: np.ndarray, opacity: float) -> np.ndarray:
    """Return the colours of 0 to 1 as they look over this slide's mean tissue, uint8 (256, 3)."""
    is_scored = ~np.isnan(values)
    beneath = picture[is_scored].mean(axis=0) if is_scored.any() else np.array(_PAPER)
    column = np.broadcast_to(np.rint(beneath).astype(np.uint8), (256, 1, 3))
    return tint(column, np.linspace(0, 1, 256, dtype=np.float32)[:, None], opacity)[:, 0]


def draw_outline(
    painted: np.ndarray,
    polygons: Mapping,
    size_level0_px: tuple[int, int],
    line_px: int,
    colour: Colour = _OUTLINE,
) -> None:
    """Draw the rings of a MultiPolygon in level-0 pixels onto the picture."""
    scale = np.divide(painted.shape[1::-1], size_level0_px)
    rings = [
        np.rint((np.array(ring) * scale - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
        for polygon in polygons["coordinates"]
        for ring in polygon
    ]
    cv2.polylines(
        painted,
        rings,
        isClosed=True,
        color=colour,
        thickness=line_px,
        lineType=cv2.LINE_AA,
        shift=_SUBPIXEL_BITS,
    )


def _frame(painted: np.ndarray, is_region: np.ndarray, line_px: int) -> None:
    """Draw the inner border of a region, so that nothing outside it changes."""
    reach = np.ones((2 * line_px + 1, 2 * line_px + 1), np.uint8)
    inside = cv2.erode(is_region.astype(np.uint8), reach, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    painted[is_region & (inside == 0)] = _REGION


def _tell_scores(panel: Panel, slide_id: str, legend: Legend, colours: np.ndarray) -> None:
    panel.heading("Slide", slide_id)
    if legend.prediction is not None:
        name, probability = legend.prediction
        panel.heading("Slide prediction", f"{name}, p {probability_text(probability)}")
    panel.heading("Heatmap", f"p({legend.class_name})", size_em=1.3)
    if legend.smooth_um:
        panel.heading("Smoothed", f"Gaussian, {length_text(legend.smooth_um)}")
    panel.colour_bar(colours, None if legend.is_threshold_of_all else legend.threshold)


def beside(picture: Image.Image, panel: Image.Image, margin_px: int) -> Image.Image:
    """Return the picture and the panel on one sheet, the picture's corner at (margin, margin)."""
    width = picture.width + panel.width + 3 * margin_px
    height = max(picture.height, panel.height) + 2 * margin_px
    right, bottom = picture.width + margin_px, picture.height + margin_px
    sheet = Image.new("RGB", (width, height), _PAPER)
    sheet.paste(_BORDER, (margin_px - 1, margin_px - 1, right + 1, bottom + 1))
    sheet.paste(picture, (margin_px, margin_px))
    sheet.paste(panel, (right + margin_px, margin_px))
    return sheet
