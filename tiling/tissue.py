"""Where the tissue is: deterministic, without weights, from one low level of the pyramid."""

from dataclasses import dataclass, field
from math import ceil

import cv2
import numpy as np
from skimage.color import rgb2hsv
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import closing, dilation, disk, remove_small_holes, remove_small_objects

from .errors import ConfigError
from .outlines import outlines
from .slide import Slide

_DARK = 0.25  # a slide whose usual brightness lies below is fluorescence: tissue is what shines
_SATURATION = (0.04, 0.12)  # where Otsu's threshold may lie: paler is glass, stronger is surely stain
_BRIGHTNESS = (0.03, 0.5)  # the same for fluorescence
_BLUR_PX = 0.5  # calms single pixels; more would put the border where there is no tissue
_PEN_SPREAD_UM = 60.0  # the edge of a stroke is blurred by the thumbnail


@dataclass(frozen=True, kw_only=True)
class TissueConfig:
    """What counts as tissue."""

    tissue_mpp: float = field(default=8.0, metadata={"help": "resolution at which tissue is sought, µm/px"})
    min_area_mm2: float = field(default=0.05, metadata={"help": "smallest piece of tissue that is kept, mm²"})
    min_hole_mm2: float = field(
        default=0.02, metadata={"help": "smallest hole in tissue that stays a hole, mm²"}
    )

    def __post_init__(self) -> None:
        if not 0.5 <= self.tissue_mpp <= 100:
            raise ConfigError(f"tissue_mpp is {self.tissue_mpp:g} µm/px", hint="give 0.5 to 100")
        if self.min_area_mm2 < 0 or self.min_hole_mm2 < 0:
            raise ConfigError(
                "an area below 0 mm² was asked for",
                hint="give min_area_mm2 and min_hole_mm2 of 0 or more",
            )


@dataclass(frozen=True)
class TissueMask:
    """Tissue of one slide: bool (H, W), and the thumbnail (H, W, 3) uint8 it was found on.

    The mask spans the whole slide of `size_level0_px` (width, height) exactly: a mask pixel is
    width / W by height / H level-0 pixels.
    """

    mask: np.ndarray
    thumbnail: np.ndarray
    size_level0_px: tuple[int, int]

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"TissueMask({width} × {height} px, {self.mask.mean():.1%} tissue)"

    def polygons(self) -> dict:
        """Return the outlines as a GeoJSON MultiPolygon in level-0 pixels, holes as inner rings."""
        scale = np.array(self.size_level0_px) / np.array(self.mask.shape[::-1])
        rings = [[np.rint(ring * scale).astype(int).tolist() for ring in p] for p in outlines(self.mask)]
        return {"type": "MultiPolygon", "coordinates": rings}


def segment_tissue(slide: Slide, config: TissueConfig | None = None) -> TissueMask:
    """Find the tissue of one slide on the lowest adequate pyramid level.

    Stained tissue is what is more saturated than glass (Otsu's threshold, kept within bounds, so
    that an empty slide stays empty); on a dark background it is what shines. Pen marks are left out.

    Raises:
        SlideError: the slide cannot be read.
        ResolutionError: the slide states no resolution.
    """
    config = config or TissueConfig()
    thumbnail = _shrink(slide.thumbnail(config.tissue_mpp), slide, config.tissue_mpp)
    mpp = slide.mpp * slide.size_px[0] / thumbnail.shape[1]
    hsv = rgb2hsv(thumbnail)
    found = _shining(hsv) if np.median(hsv[..., 2]) < _DARK else _stained(hsv, mpp)
    found = closing(found, disk(1))
    mm2_per_px = (mpp / 1000) ** 2
    found = remove_small_objects(found, max_size=ceil(config.min_area_mm2 / mm2_per_px))
    found = remove_small_holes(found, max_size=ceil(config.min_hole_mm2 / mm2_per_px))
    return TissueMask(found, thumbnail, slide.size_px)


def _shrink(pixels: np.ndarray, slide: Slide, mpp: float) -> np.ndarray:
    width, height = (max(1, round(side * slide.mpp / mpp)) for side in slide.size_px)
    if width >= pixels.shape[1]:
        return pixels  # the slide is no finer than asked
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _stained(hsv: np.ndarray, mpp: float) -> np.ndarray:
    saturation = gaussian(hsv[..., 1], sigma=_BLUR_PX)
    pen = dilation(_pen(hsv), disk(max(1, round(_PEN_SPREAD_UM / mpp))))
    rest = saturation[~pen]
    if rest.size == 0:
        return np.zeros(pen.shape, bool)
    return (saturation > np.clip(threshold_otsu(rest), *_SATURATION)) & ~pen


def _shining(hsv: np.ndarray) -> np.ndarray:
    brightness = gaussian(hsv[..., 2], sigma=_BLUR_PX)
    return brightness > np.clip(threshold_otsu(brightness), *_BRIGHTNESS)


def _pen(hsv: np.ndarray) -> np.ndarray:
    """Colours that no haematoxylin, eosin or DAB has: ink in green, blue, bright red and black."""
    hue, saturation, value = np.moveaxis(hsv, -1, 0)
    green = (hue > 0.20) & (hue < 0.53) & (saturation > 0.20)
    blue = (hue >= 0.53) & (hue < 0.66) & (saturation > 0.35)
    red = ((hue < 0.03) | (hue > 0.97)) & (saturation > 0.65) & (value > 0.5)
    black = (value < 0.25) & (saturation < 0.35)
    return remove_small_objects(green | blue | red | black, max_size=8)
