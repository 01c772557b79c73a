"""A phantom: a drawn H&E-like slide whose truth is known to the pixel."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from .errors import ConfigError
from .phantom_cells import (
    draw_glands,
    draw_nuclei,
    lymphocytes,
    scatter,
    spindle_nuclei,
    tumour_nuclei,
)
from .phantom_layout import Layout, plan_layout, smooth_noise
from .phantom_stain import develop, draw_pen, scan, vary_stain


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """What to draw."""

    size_px: tuple[int, int] = field(default=(3000, 2400), metadata={"help": "width and height in pixels"})
    mpp: float = field(default=0.5, metadata={"help": "resolution in µm/px"})
    tissue_share: float = field(default=0.4, metadata={"help": "share of the slide that is tissue"})
    tumour_share: float = field(default=0.0, metadata={"help": "share of the tissue that is tumour"})
    stain_variation: float = field(
        default=1.0, metadata={"help": "how much stain varies between slides; 0 for not at all"}
    )
    has_pen: bool = field(default=True, metadata={"help": "felt-pen strokes beside the tissue"})
    seed: int = field(default=0, metadata={"help": "another seed, another slide"})

    def __post_init__(self) -> None:
        if min(self.size_px) < 128:
            raise ConfigError(f"size_px is {self.size_px}", hint="give 128 px a side or more")
        if not 0.1 <= self.mpp <= 8:
            raise ConfigError(f"mpp is {self.mpp:g} µm/px", hint="give 0.1 to 8")
        if not 0.05 <= self.tissue_share <= 0.7:
            raise ConfigError(f"tissue_share is {self.tissue_share:g}", hint="give 0.05 to 0.7")
        if not 0 <= self.tumour_share <= 0.9:
            raise ConfigError(f"tumour_share is {self.tumour_share:g}", hint="give 0 to 0.9")
        if not 0 <= self.stain_variation <= 3:
            raise ConfigError(f"stain_variation is {self.stain_variation:g}", hint="give 0 to 3")


@dataclass(frozen=True)
class Phantom:
    """Pixels (H, W, 3) uint8 at `mpp` µm/px, and the truth: `tissue` and `tumour`, bool (H, W)."""

    pixels: np.ndarray
    tissue: np.ndarray
    tumour: np.ndarray
    mpp: float

    def __repr__(self) -> str:
        height, width = self.tissue.shape
        share = self.tumour.sum() / max(1, self.tissue.sum())
        return f"Phantom({width} × {height} px, {self.mpp:g} µm/px, {share:.0%} of the tissue is tumour)"


def render_phantom(config: PhantomConfig) -> Phantom:
    """Draw a slide: normal tissue has glands with lumina, tumour dense, large, uneven nuclei.

    The same config gives the same pixels. Stain varies alike in slides with and without tumour, and
    lymphoid aggregates are as dark as tumour, so that colour alone does not tell them apart.
    """
    rng = np.random.default_rng(config.seed)
    layout = plan_layout(
        rng,
        config.size_px,
        config.mpp,
        tissue_share=config.tissue_share,
        tumour_share=config.tumour_share,
    )
    stain = vary_stain(rng, config.stain_variation)
    haematoxylin, eosin, fibre_angle = _ground(rng, layout, config.mpp)
    _draw_cells(rng, layout, (haematoxylin, eosin), fibre_angle, 1 / config.mpp)
    haematoxylin[~layout.tissue] = 0  # nuclei on the border are cut with the tissue
    pixels = develop(_grain(rng, haematoxylin, 0.55), _grain(rng, eosin, 0.35), stain)
    if config.has_pen:
        draw_pen(pixels, layout.tissue, rng)
    return Phantom(scan(pixels, rng), layout.tissue, layout.tumour, config.mpp)


def _ground(
    rng: np.random.Generator, layout: Layout, mpp: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dye layers before any cell is drawn, and the direction of the fibres at a quarter of the size."""
    height, width = layout.tissue.shape
    small = (-(-height // 4), -(-width // 4))
    um = 1 / (4 * mpp)  # pixels per micron at a quarter of the size
    # Streaks along x, bent by a smooth displacement: cheaper than following a flow
    streaks = smooth_noise(rng, small, (2.2 * um, 70 * um)) + 0.7 * smooth_noise(
        rng, small, (7 * um, 160 * um)
    )
    bend = 170 * um * smooth_noise(rng, small, 330 * um) + 16 * um * smooth_noise(rng, small, 50 * um)
    y, x = np.mgrid[0 : small[0], 0 : small[1]].astype(np.float32)
    fibres = cv2.remap(streaks, x, y + bend, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    slope_y, slope_x = np.gradient(bend)
    angle = np.arctan2(-slope_x, 1 + slope_y)
    tone = 60 + 12 * fibres + 9 * smooth_noise(rng, small, 260 * um)
    tone = np.where(fibres < -2.1, 6, tone)  # clefts
    eosin = cv2.resize(np.clip(tone, 4, 190), (4 * small[1], 4 * small[0]))[:height, :width]
    eosin = np.rint(eosin).astype(np.uint8)
    haematoxylin = np.full((height, width), 9, np.uint8)
    haematoxylin[layout.nests], eosin[layout.nests] = 42, 46
    haematoxylin[layout.lymphoid], eosin[layout.lymphoid] = 26, 34
    haematoxylin[~layout.tissue] = eosin[~layout.tissue] = 0
    return haematoxylin, eosin, angle


def _draw_cells(
    rng: np.random.Generator,
    layout: Layout,
    layers: tuple[np.ndarray, np.ndarray],
    fibre_angle: np.ndarray,
    px_per_um: float,
) -> None:
    haematoxylin, eosin = layers
    stroma = layout.tissue & ~layout.nests & ~layout.lymphoid
    places = scatter(rng, stroma, 24 * px_per_um, 0.5)
    column, row = (places / 4).astype(int).T
    draw_nuclei(haematoxylin, spindle_nuclei(rng, places, fibre_angle[row, column], px_per_um), rng)
    draw_nuclei(haematoxylin, lymphocytes(rng, scatter(rng, stroma, 46 * px_per_um, 0.5), px_per_um), rng)
    draw_glands(haematoxylin, eosin, layout.mucosa & ~layout.lymphoid, px_per_um, rng)
    crowd = scatter(rng, layout.lymphoid, 7.2 * px_per_um, 0.2)
    draw_nuclei(haematoxylin, lymphocytes(rng, crowd, px_per_um), rng)
    crowd = scatter(rng, layout.nests, 11.5 * px_per_um, 0.17)
    draw_nuclei(haematoxylin, tumour_nuclei(rng, crowd, px_per_um), rng)


def _grain(rng: np.random.Generator, layer: np.ndarray, strength: float) -> np.ndarray:
    """Return `layer` uint8 uneven over a pixel or two, as chromatin and fibres are."""
    grain = rng.integers(0, 256, layer.shape, dtype=np.uint8)
    grain = cv2.GaussianBlur(grain, (5, 5), 1.1)
    uneven = cv2.multiply(layer, grain, scale=strength / 128)
    return cv2.addWeighted(layer, 1 - strength, uneven, 1.0, 0)
