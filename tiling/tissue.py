"""Where the tissue is: deterministic, without weights, from one low level of the pyramid."""

from dataclasses import dataclass, field
from math import ceil, inf

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from skimage.filters import threshold_otsu

from .background import brightness, find_padding, hsv_planes, tell_background
from .errors import ConfigError
from .focus import find_blur, measure_texture
from .ink import find_ink, without_ink
from .lines import without_lines
from .outlines import outlines
from .pieces import drop_small, fill_small
from .quality import TissueQuality, measure_quality
from .slide import Slide

BACKGROUNDS = ("auto", "bright", "dark")
_SATURATION = (0.027, 0.12)  # where the threshold may lie: paler is glass, stronger is surely stain
_HUMP, _HUMP_SHARE, _HUMP_SIGMA = (
    2.0,
    0.05,
    2.0,
)  # a second hump: twice its valley, with so much of the picture
_GLASS_TAIL = 0.02  # of its most frequent saturation, how much glass is left where stain begins
_MARGIN = 3 / 255  # between the most coloured glass and the palest stain
_PALE = 0.2  # of Otsu's threshold: halfway to the strong stains, it would lose the pale ones
_GLOW = 3.0  # of 255: less above the dark is the camera's noise
_GLOW_UM = 16.0  # nuclei shine one by one; tissue is what holds them
_GREY = 3.0  # where brightness lost is more than so many times the saturation, it is the shadow of dirt
_GREY_BELOW = 10  # of 255: more saturation than here is stain, however dark; brown over blue is nearly grey
_RIM_STAIN = 0.4  # of the strongest stain beside it, what a pixel of the outline must have
_RIM_GLOW = 0.8  # of the light around it, what a pixel of the outline must have to be mostly tissue
_SAMPLE_STEP = 3  # light is so smooth that every ninth pixel tells its distribution
# the least piece where none is asked for: a picture of a few hundred pixels is smaller than any in mm²
_MIN_AREA_MM2, _MIN_AREA_SHARE = 0.05, 0.05
_SOFT_PX = 0.7  # calms single pixels; more would put the border where there is no tissue


@dataclass(frozen=True, kw_only=True)
class TissueConfig:
    """What counts as tissue."""

    tissue_mpp: float = field(default=8.0, metadata={"help": "resolution at which tissue is sought, µm/px"})
    min_area_mm2: float | None = field(
        default=None,
        metadata={
            "help": "smallest piece of tissue that is kept, mm² [default: 0.05, at most 5 % of the slide]"
        },
    )
    min_hole_mm2: float = field(
        default=0.02, metadata={"help": "smallest hole in tissue that stays a hole, mm²"}
    )
    background: str = field(
        default="auto", metadata={"help": "behind the tissue: bright, dark (fluorescence) or auto"}
    )

    def __post_init__(self) -> None:
        if not 0.5 <= self.tissue_mpp <= 100:
            raise ConfigError(f"tissue_mpp is {self.tissue_mpp:g} µm/px", hint="give 0.5 to 100")
        for name, area in (("min_area_mm2", self.min_area_mm2 or 0), ("min_hole_mm2", self.min_hole_mm2)):
            if not 0 <= area < inf:
                raise ConfigError(f"{name} is {area:g} mm²", hint="give 0 or more, and a finite number")
        if self.background not in BACKGROUNDS:
            raise ConfigError(
                f"background is {self.background!r}", hint=f"choose from {', '.join(BACKGROUNDS)}"
            )


@dataclass(frozen=True)
class TissueMask:
    """Tissue of one slide: bool (H, W), and the thumbnail (H, W, 3) uint8 it was found on.

    The mask spans the whole slide of `size_level0_px` (width, height) exactly: a mask pixel is
    width / W by height / H level-0 pixels. `quality` is None for a mask that was not sought but given.
    """

    mask: np.ndarray
    thumbnail: np.ndarray
    size_level0_px: tuple[int, int]
    quality: TissueQuality | None = None

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

    Stained tissue is what is more saturated than glass, wherever it is in focus and no pen is over it;
    on a dark background it is what shines. Scanner padding, coverslip edges and dust are no tissue.

    Raises:
        SlideError: the slide cannot be read.
        ResolutionError: the slide states no resolution.
    """
    config = config or TissueConfig()
    thumbnail = _shrink(slide.thumbnail(config.tissue_mpp), slide, config.tissue_mpp)
    mpp = slide.mpp * slide.size_px[0] / thumbnail.shape[1]
    background = tell_background(thumbnail) if config.background == "auto" else config.background
    if background == "dark":
        found, ink = _shining(thumbnail, mpp), np.zeros(thumbnail.shape[:2], bool)
    else:
        found, ink = _stained(thumbnail, mpp)
    found = _tidy(found, mpp, config) & ~ink
    texture = measure_texture(thumbnail, found, mpp, dark=background == "dark")
    blurred = find_blur(texture, found, mpp)
    if background == "bright" and blurred.any():
        found = drop_small(found & ~blurred, _min_area_px(found, mpp, config))
    quality = measure_quality(found, thumbnail, mpp, background=background, ink=ink, texture=texture)
    return TissueMask(found, thumbnail, slide.size_px, quality)


def _shrink(pixels: np.ndarray, slide: Slide, mpp: float) -> np.ndarray:
    width, height = (max(1, round(side * slide.mpp / mpp)) for side in slide.size_px)
    if width >= pixels.shape[1]:
        return pixels  # the slide is no finer than asked
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _stained(thumbnail: np.ndarray, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    """Where stain is, and where ink is, both bool (H, W)."""
    padding = find_padding(thumbnail)
    planes = hsv_planes(thumbnail)
    ink = find_ink(planes, mpp)
    if ink.any():
        ink = without_lines(ink, mpp)  # the edge of a coverslip is as dark as a black pen
    if padding.any():
        ink &= ~padding
    saturation = cv2.GaussianBlur(planes[1], (3, 3), _SOFT_PX)
    stained = saturation > 255 * _stain_threshold(saturation, ~(ink | padding))
    lit = cv2.addWeighted(saturation, _GREY, planes[2], 1, 0)
    stained &= (lit == 255) | (saturation > _GREY_BELOW)
    nearby = cv2.dilate(saturation, np.ones((5, 5), np.uint8))
    stained = _without_rim(stained, saturation, cv2.convertScaleAbs(nearby, alpha=_RIM_STAIN))
    stained &= ~padding
    return without_lines(without_ink(stained, ink, mpp), mpp), ink


def _stain_threshold(saturation: np.ndarray, among: np.ndarray) -> float:
    """Saturation, 0 to 1, above which a pixel is stained."""
    counts = cv2.calcHist([saturation], [0], among.view(np.uint8), [256], [0, 256]).ravel()
    if np.count_nonzero(counts) < 2:
        return _SATURATION[1]
    otsu = float(threshold_otsu(hist=(counts, np.arange(256)))) / 255
    peak = int(counts[:40].argmax())
    tail = np.flatnonzero(counts[peak:] < _GLASS_TAIL * counts[peak])
    glass = min(peak + (tail[0] if len(tail) else 256), _valley(counts, peak)) / 255
    return float(np.clip(max(glass + _MARGIN, _PALE * otsu), *_SATURATION))


def _valley(counts: np.ndarray, peak: int) -> int:
    """Where the glass ends and a second hump begins, 256 if there is none.

    In a small or mostly covered picture the soft edges of tissue keep the glass's tail from ending.
    """
    smooth = gaussian_filter1d(counts, _HUMP_SIGMA)
    highest_later = np.maximum.accumulate(smooth[::-1])[::-1]
    later = counts[::-1].cumsum()[::-1]
    is_valley = (highest_later > _HUMP * smooth) & (later > _HUMP_SHARE * counts.sum())
    found = np.flatnonzero(is_valley[peak + 1 :])
    if not len(found):
        return 256
    first = peak + 1 + int(found[0])
    top = first + int(smooth[first:].argmax())
    return first + int(smooth[first : top + 1].argmin())


def _shining(thumbnail: np.ndarray, mpp: float) -> np.ndarray:
    """Where (H, W) bool it is brighter than the dark, dim tissue as well as its brightest nuclei."""
    value = brightness(thumbnail).astype(np.float32)
    glow = cv2.GaussianBlur(value, (0, 0), max(0.5, _GLOW_UM / mpp))
    sample = glow[::_SAMPLE_STEP, ::_SAMPLE_STEP]
    dark = np.percentile(sample, 5)
    # the logarithm, or the threshold would lie between dim and bright tissue
    log = np.log2(1 + np.maximum(sample - dark, 0))
    otsu = float(threshold_otsu(log)) if np.ptp(log) > 0 else 0.0
    threshold = dark + max(2**otsu - 1, _GLOW)
    # light spreads beyond the tissue in `glow`: the outline is that of the sharp picture
    gaps = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * ceil(2 * _GLOW_UM / mpp) + 1,) * 2)
    closed = cv2.morphologyEx((value > threshold).view(np.uint8), cv2.MORPH_CLOSE, gaps).view(bool)
    return _without_rim(closed & (glow > threshold), value, _RIM_GLOW * glow)


def _without_rim(found: np.ndarray, signal: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Return `found` less its outline's pixels that are mostly glass: whose `signal` is not above `least`."""
    inner = cv2.erode(found.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
    return inner | (found & (signal > least))


def _tidy(found: np.ndarray, mpp: float, config: TissueConfig) -> np.ndarray:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    found = cv2.morphologyEx(found.view(np.uint8), cv2.MORPH_CLOSE, cross).view(bool)
    found = drop_small(found, _min_area_px(found, mpp, config))
    return fill_small(found, ceil(config.min_hole_mm2 / (mpp / 1000) ** 2))


def _min_area_px(found: np.ndarray, mpp: float, config: TissueConfig) -> int:
    pixel_mm2 = (mpp / 1000) ** 2
    if config.min_area_mm2 is None:
        return ceil(min(_MIN_AREA_MM2 / pixel_mm2, _MIN_AREA_SHARE * found.size))
    return ceil(config.min_area_mm2 / pixel_mm2)
