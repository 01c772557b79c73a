"""How a phantom is stained and scanned: two dyes that absorb light, a scanner's noise, a felt pen."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

AMOUNT = 100.0  # a dye layer's value (uint8) at amount 1

# Absorbance (natural log) per unit of dye in red, green, blue; usual values for H&E scanners
_HAEMATOXYLIN = np.array([0.58, 0.70, 0.36])
_EOSIN = np.array([0.17, 0.80, 0.46])
_PENS_RGB = ((38, 62, 150), (30, 120, 70), (40, 38, 42), (190, 40, 50))


@dataclass(frozen=True)
class Stain:
    """Absorbance of each dye (3,) per unit, and the colour (3,) of empty glass, 0 to 255."""

    haematoxylin: np.ndarray
    eosin: np.ndarray
    white: np.ndarray


def vary_stain(rng: np.random.Generator, variation: float) -> Stain:
    """Return a slide's own stain: hue, strength and white point move by about `variation` x 12 %.

    It is drawn alike for slides of every class, so that their colours overlap.
    """
    hue = np.exp(0.09 * variation * rng.standard_normal((2, 3)))
    strength = np.exp(0.12 * variation * rng.standard_normal((2, 1)))
    white = 244.0 + variation * rng.uniform(-5, 5) + variation * rng.uniform(-1.5, 1.5, 3)
    varied = np.stack([_HAEMATOXYLIN, _EOSIN]) * hue * strength
    return Stain(varied[0], varied[1], np.clip(white, 225, 252))


def develop(haematoxylin: np.ndarray, eosin: np.ndarray, stain: Stain) -> np.ndarray:
    """Return the light (H, W, 3) uint8 that two dye layers (H, W) uint8 let through (Beer-Lambert)."""
    amounts = np.arange(256) / AMOUNT
    absorbance = (
        amounts[:, None, None] * stain.haematoxylin + amounts[None, :, None] * stain.eosin
    )  # (256, 256, 3): all there can be, so that a pixel costs one look-up
    table = np.rint(stain.white * np.exp(-absorbance)).astype(np.uint8).reshape(-1, 3)
    index = (haematoxylin.astype(np.uint16) << 8) | eosin
    return np.ascontiguousarray(np.take(table, index, axis=0))


def scan(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `pixels` as a scanner sees them: slightly soft, slightly noisy."""
    soft = cv2.GaussianBlur(pixels, (3, 3), 0.6)
    grain = rng.integers(0, 6, pixels.shape[:2], dtype=np.uint8)
    return cv2.subtract(soft, cv2.merge([grain, grain, grain]))


def draw_pen(pixels: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> None:
    """Draw one to three felt-pen strokes on the glass beside the tissue, never on it, in place."""
    height, width = tissue.shape
    thickness = max(3, round(0.018 * min(height, width)))
    reach = cv2.distanceTransform((~tissue[::8, ::8]).astype(np.uint8), cv2.DIST_L2, 3)
    outline, _ = cv2.findContours(
        (reach * 8 < rng.uniform(3.0, 6.0) * thickness).astype(np.uint8),
        cv2.RETR_EXTERNAL,
        cv2.CHAIN_APPROX_NONE,
    )
    ink = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 4)):
        line = outline[int(rng.integers(len(outline)))][:, 0, :].astype(np.float64) * 8
        if rng.random() < 0.4 or len(line) < 40:
            line = _scribble(rng, (width, height))
        else:  # along a piece of tissue, as pathologists mark it
            start, share = rng.integers(len(line)), rng.uniform(0.2, 0.6)
            line = np.roll(line, -start, axis=0)[: int(share * len(line))]
            line = gaussian_filter1d(line, 12, axis=0)[::4]
        tremor = 2.5 * thickness * rng.standard_normal(line.shape)
        line = line + gaussian_filter1d(tremor, 6, axis=0)
        points = np.rint(line * 16).astype(np.int32)[:, None]
        cv2.polylines(
            ink, [points], isClosed=False, color=255, thickness=thickness, lineType=cv2.LINE_AA, shift=4
        )
    ink[tissue] = 0
    _apply_ink(pixels, ink, np.array(_PENS_RGB[rng.integers(len(_PENS_RGB))]), rng)


def _scribble(rng: np.random.Generator, size_px: tuple[int, int]) -> np.ndarray:
    """A short curved stroke anywhere (n, 2)."""
    width, height = size_px
    t = np.linspace(0, 1, 60)[:, None]
    start = rng.uniform(0.05, 0.95, 2) * (width, height)
    ends = start + rng.normal(0, 0.12 * min(size_px), (2, 2))
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * ends[0] + t**2 * ends[1]


def _apply_ink(pixels: np.ndarray, ink: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> None:
    rows, columns = np.nonzero(ink)
    height, width = ink.shape
    streaks = cv2.resize(rng.uniform(0.65, 1.0, (height // 20 + 2, width // 20 + 2)), (width, height))
    opacity = (ink[rows, columns] / 255.0 * streaks[rows, columns])[:, None]
    through = pixels[rows, columns] * (colour / 245.0) ** opacity
    pixels[rows, columns] = np.rint(through).astype(np.uint8)
