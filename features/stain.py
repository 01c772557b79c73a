"""Stain normalisation: a slide's colours brought to those of a fixed target, by one map for the whole slide.

Estimated patch by patch, blank patches would become colourful and a tumour's many nuclei pale; so the
stains are estimated once, from a seeded sample of the slide's tiles, and a few numbers are kept.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tiling import Slide, SlideError, TileGrid, glass_colour, read_patches

from .recolour import STAINS, density, recolour

_SAMPLE_TILES, _MOST_TILES = 48, 384  # drawn at a time, until there is enough; and at most
_SAMPLE_MPP = 2.0  # a third of a nucleus: averaged so far, neither noise nor JPEG's coarse colours count
_SAMPLE_BATCH = 8
_GLASS_MPP = 16.0  # the slide is looked at so coarsely to see the colour of its glass
# Mean optical density, natural logarithm, of a pixel that counts. Not of each channel, as in Macenko's
# method: eosin takes little of the red, and where it lies alone it would not be seen
_STAINED = 0.15
_ENOUGH_PIXELS, _LEAST_PIXELS = 10_000, 500
_LEAST_DEGREES = 8.0  # between two stains; those of the target lie 22 degrees apart
_FULLY = 8.0  # a pixel an eighth darker than white is stained
_DARK = 2.0  # median optical density above which nobody stained it: fluorescence, or a black border

_MACENKO_MOST = np.array([1.9705, 1.0308])  # 99th percentile of the two reference stains' concentrations
# CIELAB mean and spread of five real H&E slides brought to that reference, by bench/stain.py
_REINHARD_MEAN = np.array([57.5, 25.5, -11.3])
_REINHARD_SPREAD = np.array([13.4, 5.3, 5.3])
_MOST_STRETCH = 1.5  # of a slide's spread: more would make colours that no stain has


class StainNormaliser(ABC):
    """A map of colours that belongs to one slide; `numbers` are all it consists of."""

    numbers: tuple[float, ...]

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """Return uint8 patches (n, H, W, 3) in the target's colours; each depends on itself alone."""
        out = np.empty_like(patches)
        for patch, into in zip(patches, out, strict=True):
            into[:] = self._map(patch)
        return out

    @abstractmethod
    def _map(self, patch: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Macenko(StainNormaliser):
    """Stains unmixed as the slide has them and mixed anew as the target has them (Macenko 2009)."""

    numbers: tuple[float, ...]  # the glass, RGB, and the 3 x 3 map of optical densities, row by row

    def _map(self, patch: np.ndarray) -> np.ndarray:
        return recolour(patch, np.array(self.numbers[3:]).reshape(3, 3), self.numbers[:3])


@dataclass(frozen=True)
class Reinhard(StainNormaliser):
    """Mean and spread in CIELAB brought to the target's (Reinhard 2001), the less the paler a pixel is."""

    numbers: tuple[float, ...]  # RGB of the glass, then the slide's means and spreads: L, a, b; L, a, b

    def _map(self, patch: np.ndarray) -> np.ndarray:
        glass, (mean, spread) = self.numbers[:3], np.array(self.numbers[3:]).reshape(2, 3)
        stretch = np.minimum(_REINHARD_SPREAD / spread, _MOST_STRETCH)
        shift = np.column_stack([np.diag(stretch), _REINHARD_MEAN - stretch * mean]).astype(np.float32)
        balanced = cv2.LUT(patch, _whitened(glass))
        lab = cv2.cvtColor(balanced, cv2.COLOR_RGB2LAB)
        # what is not stained stays as it is, and there is no step between both
        pale = cv2.cvtColor(balanced, cv2.COLOR_RGB2GRAY)
        stained = cv2.threshold((1 - pale) * _FULLY, 1, 0, cv2.THRESH_TRUNC)[1][..., None]
        mixed = cv2.cvtColor(lab + stained * (cv2.transform(lab, shift) - lab), cv2.COLOR_LAB2RGB)
        return cv2.convertScaleAbs(np.maximum(mixed, 0), alpha=255)


def _whitened(glass: tuple[float, ...]) -> np.ndarray:
    """Grey levels as shares of the glass, float32 (1, 256, 3), which makes the glass white."""
    levels = np.arange(256)[:, None] / np.array(glass)
    return np.minimum(levels, 1).astype(np.float32).reshape(1, 256, 3)


def fit_stain(slide: Slide, grid: TileGrid, stain: str) -> StainNormaliser | None:
    """Return the map from a slide's colours to the target's, None where `stain` is "none".

    Raises:
        SlideError: the slide is dark, has too little stained tissue, or a single stain.
    """
    if stain == "none" or not len(grid):
        return None
    pixels, glass = _stained_pixels(slide, grid)
    return _macenko(pixels, glass, slide.id) if stain == "macenko" else _reinhard(pixels, glass)


def _stained_pixels(slide: Slide, grid: TileGrid) -> tuple[np.ndarray, tuple[float, ...]]:
    """Stained pixels (N, 3) of a sample of the grid's tiles, the same for the same grid; and the glass."""
    glass = _glass(slide)
    draw = np.random.default_rng(int(grid.slide_fingerprint[:8], 16))
    order = draw.permutation(len(grid))[:_MOST_TILES]
    found: list[np.ndarray] = []
    n_pixels = n_readable = 0
    for start in range(0, len(order), _SAMPLE_TILES):
        if n_pixels >= _ENOUGH_PIXELS:
            break
        tiles = _sampled(slide, grid, np.sort(order[start : start + _SAMPLE_TILES]))
        pixels = tiles.reshape(-1, 3)
        densities = density(pixels, glass)
        if len(pixels) and np.median(densities) > _DARK:
            raise SlideError(
                f"{slide.id}: is dark, its stain cannot be normalised",
                hint="leave fluorescence slides out, or extract with --stain none",
            )
        found.append(pixels[densities.mean(axis=1) > _STAINED])
        n_readable, n_pixels = n_readable + len(tiles), n_pixels + len(found[-1])
    if n_pixels < _LEAST_PIXELS:
        raise SlideError(
            f"{slide.id}: {n_pixels} stained pixels in {n_readable} readable tiles, wanted {_LEAST_PIXELS} "
            "to estimate its stain from",
            hint="leave the slide out, or extract with --stain none",
        )
    return np.concatenate(found), glass


def _sampled(slide: Slide, grid: TileGrid, rows: np.ndarray) -> np.ndarray:
    """Those of some tiles that can be read, `coarsened`."""
    some = replace(grid, coords=grid.coords[rows], tissue_fraction=grid.tissue_fraction[rows])
    batches = read_patches(slide, some, batch=_SAMPLE_BATCH)
    return np.concatenate([coarsened(b.pixels[~b.unreadable], grid.config.tile_mpp) for b in batches])


def coarsened(patches: np.ndarray, tile_mpp: float) -> np.ndarray:
    """Return square uint8 patches (n, side, side, 3) averaged to about 2 µm/px, to estimate colours from."""
    side = patches.shape[1] // max(1, round(_SAMPLE_MPP / tile_mpp)) or 1
    out = np.empty((len(patches), side, side, 3), np.uint8)
    for patch, into in zip(patches, out, strict=True):
        cv2.resize(patch, (side, side), dst=into, interpolation=cv2.INTER_AREA)
    return out


def _glass(slide: Slide) -> tuple[float, ...]:
    """RGB of the slide's glass, looked for on all of it, as tiles may hold none."""
    try:
        return tuple(glass_colour(slide.thumbnail(_GLASS_MPP)).tolist())
    except SlideError as error:
        raise SlideError(
            f"{slide.id}: the colour of its glass cannot be seen on the whole slide ({error})",
            hint="copy the file again from its source, or extract with --stain none",
        ) from error


def _macenko(pixels: np.ndarray, glass: tuple[float, ...], slide_id: str) -> Macenko:
    densities = density(pixels, glass).astype(float)
    stains = _two_stains(densities)
    unmix = np.linalg.pinv(stains)
    most = np.percentile(densities @ unmix.T, 99, axis=0)
    between = float(np.degrees(np.arccos(np.clip(stains[:, 0] @ stains[:, 1], -1, 1))))
    if between < _LEAST_DEGREES or (most <= 0).any():
        raise SlideError(
            f"{slide_id}: its stains lie {between:.0f} degrees apart, too close to be told from each other",
            hint="a single stain cannot be normalised by macenko: use --stain reinhard or none",
        )
    matrix = STAINS @ np.diag(_MACENKO_MOST / most) @ unmix
    return Macenko((*glass, *matrix.ravel().tolist()))


def _two_stains(densities: np.ndarray) -> np.ndarray:
    """Haematoxylin and eosin, unit columns (3, 2): the extreme hues in the plane that densities (N, 3) span.

    The plane goes through the origin, so that its first axis is the mean hue and no angle to it wraps, as
    happens in torchstain's estimate where hues vary more than strengths.
    """
    _, axes = np.linalg.eigh(densities.T @ densities)
    frame = axes[:, :0:-1] * np.sign(axes[:, :0:-1].sum(axis=0))
    along, across = (densities @ frame).T
    angles = np.percentile(np.arctan2(across, along), (1, 99))
    stains = frame @ np.stack([np.cos(angles), np.sin(angles)])
    return stains[:, np.argsort(-stains[0])]  # haematoxylin takes more of the red


def _reinhard(pixels: np.ndarray, glass: tuple[float, ...]) -> Reinhard:
    lab = cv2.cvtColor(cv2.LUT(pixels[None], _whitened(glass)), cv2.COLOR_RGB2LAB)[0]
    return Reinhard((*glass, *lab.mean(axis=0).tolist(), *np.maximum(lab.std(axis=0), 1.0).tolist()))
