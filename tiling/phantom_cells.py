"""A phantom's nuclei and glands, drawn on its two dye layers."""

from dataclasses import dataclass

import cv2
import numpy as np

_SHIFT = 4  # sub-pixel bits of OpenCV's drawing
_N_CORNERS = 14


@dataclass(frozen=True)
class Nuclei:
    """Places (N, 2) x, y, semi-axes (N, 2) long, short and `angle` (N,), in pixels and radians.

    `amount` (N,) is the haematoxylin layer's value, `irregularity` the relative spread of the outline.
    """

    places: np.ndarray
    axes: np.ndarray
    angle: np.ndarray
    amount: np.ndarray
    irregularity: float


def scatter(rng: np.random.Generator, mask: np.ndarray, spacing_px: float, jitter: float) -> np.ndarray:
    """Return places (N, 2) x, y inside `mask`: a lattice shaken by `jitter` spacings."""
    height, width = mask.shape
    y, x = np.mgrid[0 : height / spacing_px, 0 : width / spacing_px].astype(np.float64)
    x[1::2] += 0.5  # a hexagonal lattice packs cells as tissue does
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    places = (places + rng.normal(0, jitter, places.shape)) * spacing_px
    column, row = np.rint(places).astype(int).T
    places = places[(column >= 0) & (column < width) & (row >= 0) & (row < height)]
    column, row = np.minimum(np.rint(places).astype(int), (width - 1, height - 1)).T
    return places[mask[row, column]]


def tumour_nuclei(rng: np.random.Generator, places: np.ndarray, px_per_um: float) -> Nuclei:
    """Large, dark, uneven nuclei in all directions."""
    n = len(places)
    short = rng.lognormal(np.log(4.1), 0.16, n)
    axes = np.stack([short * rng.uniform(1.05, 1.6, n), short], axis=1) * px_per_um
    return Nuclei(places, axes, rng.uniform(0, np.pi, n), rng.normal(170, 26, n), 0.13)


def lymphocytes(rng: np.random.Generator, places: np.ndarray, px_per_um: float) -> Nuclei:
    """Small, round, dark nuclei."""
    n = len(places)
    axes = np.repeat(rng.normal(2.7, 0.25, (n, 1)), 2, axis=1) * px_per_um
    return Nuclei(places, axes, np.zeros(n), rng.normal(200, 18, n), 0.04)


def spindle_nuclei(
    rng: np.random.Generator, places: np.ndarray, fibre_angle: np.ndarray, px_per_um: float
) -> Nuclei:
    """Thin nuclei along the fibres; `fibre_angle` (N,) in radians."""
    n = len(places)
    axes = np.stack([rng.normal(5.6, 1.1, n), rng.normal(1.6, 0.25, n)], axis=1) * px_per_um
    angle = fibre_angle + rng.normal(0, 0.2, n)
    return Nuclei(places, np.maximum(axes, 0.5), angle, rng.normal(165, 22, n), 0.08)


def draw_nuclei(haematoxylin: np.ndarray, nuclei: Nuclei, rng: np.random.Generator) -> None:
    """Draw `nuclei` on the layer (H, W) uint8, in place; the last drawn lies on top."""
    n = len(nuclei.places)
    turn = np.linspace(0, 2 * np.pi, _N_CORNERS, endpoint=False)
    bumps = rng.normal(0, nuclei.irregularity / 1.4, (n, 4))
    outline = 1 + bumps[:, :1] * np.cos(2 * turn) + bumps[:, 1:2] * np.sin(2 * turn)
    outline += bumps[:, 2:3] * np.cos(3 * turn) + bumps[:, 3:] * np.sin(3 * turn)
    along = nuclei.axes[:, :1] * outline * np.cos(turn)
    across = nuclei.axes[:, 1:] * outline * np.sin(turn)
    cos, sin = np.cos(nuclei.angle)[:, None], np.sin(nuclei.angle)[:, None]
    x = nuclei.places[:, :1] + along * cos - across * sin
    y = nuclei.places[:, 1:] + along * sin + across * cos
    corners = np.rint(np.stack([x, y], axis=2) * 2**_SHIFT).astype(np.int32)  # (N, corners, 2)
    amounts = np.clip(nuclei.amount, 60, 250).astype(int).tolist()
    for polygon, amount in zip(corners, amounts, strict=True):
        cv2.fillPoly(haematoxylin, [polygon], amount, cv2.LINE_AA, _SHIFT)


def draw_glands(
    haematoxylin: np.ndarray,
    eosin: np.ndarray,
    mucosa: np.ndarray,
    px_per_um: float,
    rng: np.random.Generator,
) -> None:
    """Fill `mucosa` with glands on both layers, in place: pale lumen, cytoplasm, a ring of nuclei."""
    depth = cv2.distanceTransform(mucosa[::4, ::4].astype(np.uint8), cv2.DIST_L2, 3) * 4
    places = scatter(rng, mucosa, 80 * px_per_um, 0.11)
    for place in places:
        column, row = np.minimum(np.rint(place / 4).astype(int), np.array(depth.shape)[::-1] - 1)
        radius_px = rng.uniform(24, 37) * px_per_um
        if depth[row, column] > radius_px:
            _draw_gland(haematoxylin, eosin, place, radius_px, px_per_um, rng)


def _draw_gland(
    haematoxylin: np.ndarray,
    eosin: np.ndarray,
    place: np.ndarray,
    radius_px: float,
    px_per_um: float,
    rng: np.random.Generator,
) -> None:
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    wave = rng.normal(0, 0.06, (3, 1)) * np.cos(
        np.array([[2], [3], [5]]) * turn + rng.uniform(0, 6.3, (3, 1))
    )
    outer = radius_px * (1 + wave.sum(axis=0))
    lumen = outer * rng.uniform(0.25, 0.5)
    direction = np.stack([np.cos(turn), np.sin(turn)], axis=1)

    def fill(layer: np.ndarray, radius: np.ndarray, amount: int) -> None:
        corners = np.rint((place + direction * radius[:, None]) * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(layer, [corners], amount, cv2.LINE_AA, _SHIFT)

    cytoplasm = int(rng.integers(22, 50))  # mucus makes many of them pale
    fill(haematoxylin, outer, 20)
    fill(eosin, outer, cytoplasm)
    fill(haematoxylin, lumen, 3)
    fill(eosin, lumen, 5)
    n = max(6, round(2 * np.pi * radius_px / (6.2 * px_per_um)))
    at = (np.arange(n) + rng.normal(0, 0.18, n)) * 2 * np.pi / n
    ring = np.interp(at % (2 * np.pi), np.append(turn, 2 * np.pi), np.append(outer, outer[0]))
    ring = ring - (4.6 + rng.normal(0, 0.7, n)) * px_per_um
    places = place + np.stack([np.cos(at), np.sin(at)], axis=1) * ring[:, None]
    axes = np.stack([rng.normal(3.9, 0.5, n), rng.normal(2.3, 0.25, n)], axis=1) * px_per_um
    draw_nuclei(haematoxylin, Nuclei(places, axes, at, rng.normal(165, 20, n), 0.06), rng)
