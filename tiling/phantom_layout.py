"""Where a phantom's tissue, tumour, mucosa and lymphoid aggregates lie: thresholds of smooth noise."""

from dataclasses import dataclass

import cv2
import numpy as np

_COARSE = 8  # places are decided on a raster this many times coarser than level 0


@dataclass(frozen=True)
class Layout:
    """Bool masks (H, W) at level 0; `tumour` and `lymphoid` are inside `tissue` and disjoint.

    `nests` are the tumour less its seams of stroma, `mucosa` is tissue that may bear glands.
    """

    tissue: np.ndarray
    tumour: np.ndarray
    nests: np.ndarray
    mucosa: np.ndarray
    lymphoid: np.ndarray


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], scale: float | tuple[float, float]
) -> np.ndarray:
    """Return float32 noise of `shape`, of about unit spread, that varies over `scale` (y, x) pixels."""
    scale_y, scale_x = scale if isinstance(scale, tuple) else (scale, scale)
    height, width = shape
    coarse = (max(4, round(height / scale_y) + 1), max(4, round(width / scale_x) + 1))
    grid = rng.standard_normal(coarse).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def plan_layout(
    rng: np.random.Generator,
    size_px: tuple[int, int],
    mpp: float,
    *,
    tissue_share: float,
    tumour_share: float,
) -> Layout:
    """Return where everything lies, on a slide of `size_px` (width, height) at `mpp` µm/px.

    `tissue_share` is of the slide, `tumour_share` of the tissue; both are met closely.
    """
    width, height = size_px
    shape = (-(-height // _COARSE), -(-width // _COARSE))
    um = 1.0 / (mpp * _COARSE)  # coarse pixels per micron
    tissue = _pieces(rng, shape, tissue_share)
    inside = tissue > 0
    tumour = _foci(rng, inside, tumour_share)
    seams = np.abs(smooth_noise(rng, shape, 110 * um)) - 0.12
    lymphoid = _discs(rng, inside & (tumour < -0.02), (35 * um, 90 * um))
    mucosa = smooth_noise(rng, shape, 500 * um) + 0.45

    def at_level0(field: np.ndarray) -> np.ndarray:
        fine = cv2.resize(field, (shape[1] * _COARSE, shape[0] * _COARSE), interpolation=cv2.INTER_CUBIC)
        return fine[:height, :width] > 0

    tissue = at_level0(tissue)
    tumour = at_level0(tumour) & tissue if tumour_share else np.zeros_like(tissue)
    return Layout(
        tissue=tissue,
        tumour=tumour,
        nests=tumour & at_level0(seams),
        mucosa=tissue & ~tumour & at_level0(mucosa),
        lymphoid=tissue & ~tumour & at_level0(lymphoid),
    )


def _pieces(rng: np.random.Generator, shape: tuple[int, int], share: float) -> np.ndarray:
    """One to three pieces of tissue, above zero on `share` of the raster."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    field = np.full(shape, -np.inf, np.float32)
    for _ in range(rng.integers(1, 4)):
        centre_x, centre_y = rng.uniform(0.3, 0.7, 2) * (width, height)
        angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.7)
        along = (x - centre_x) * np.cos(angle) + (y - centre_y) * np.sin(angle)
        across = (y - centre_y) * np.cos(angle) - (x - centre_x) * np.sin(angle)
        distance = np.hypot(along / stretch, across * stretch) / min(shape)
        field = np.maximum(field, -distance)
    side = min(shape)
    for amplitude, scale in ((0.11, side / 4), (0.045, side / 11), (0.012, side / 45)):
        field += amplitude * smooth_noise(rng, shape, scale)
    margin = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / side
    field -= 4 * np.clip(0.05 - margin, 0, None)  # tissue lies off the border of the glass
    return field - np.float32(np.quantile(field, 1 - share))


def _foci(rng: np.random.Generator, tissue: np.ndarray, share: float) -> np.ndarray:
    """One or two foci inside `tissue`, above zero on `share` of it."""
    if not share:
        return np.full(tissue.shape, -1, np.float32)
    depth = cv2.distanceTransform(tissue.astype(np.uint8), cv2.DIST_L2, 3)
    side = min(tissue.shape)
    y, x = np.mgrid[0 : tissue.shape[0], 0 : tissue.shape[1]].astype(np.float32)
    field = np.full(tissue.shape, -np.inf, np.float32)
    for _ in range(rng.integers(1, 3)):
        deep = np.argwhere(depth > 0.35 * depth.max())
        centre_y, centre_x = deep[rng.integers(len(deep))]
        field = np.maximum(field, -np.hypot(x - centre_x, y - centre_y) / side)
    for amplitude, scale in ((0.07, side / 8), (0.02, side / 30)):
        field += amplitude * smooth_noise(rng, tissue.shape, scale)
    return field - np.float32(np.quantile(field[tissue], 1 - share))


def _discs(rng: np.random.Generator, allowed: np.ndarray, radii: tuple[float, float]) -> np.ndarray:
    """Up to three frayed discs centred in `allowed`, above zero inside."""
    places = np.argwhere(allowed)
    y, x = np.mgrid[0 : allowed.shape[0], 0 : allowed.shape[1]].astype(np.float32)
    field = np.full(allowed.shape, -1, np.float32)
    fray = 1 + 0.18 * smooth_noise(rng, allowed.shape, max(2.0, radii[0] / 2))
    for _ in range(rng.integers(0, 4) if len(places) else 0):
        centre_y, centre_x = places[rng.integers(len(places))]
        radius = np.float32(rng.uniform(*radii))
        field = np.maximum(field, 1 - np.hypot(x - centre_x, y - centre_y) / (radius * fray))
    return field
