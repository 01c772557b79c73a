"""What lies on a slide beside tissue: pens, dust, coverslip edges, smudges, padding, blur."""

from collections.abc import Iterable

import cv2
import numpy as np

from tiling.phantom_layout import smooth_noise

_MPP = 4.0
_PENS_RGB = ((38, 62, 150), (30, 120, 70), (40, 38, 42), (195, 35, 45))


def draw_strokes(
    rng: np.random.Generator, light: np.ndarray, tissue: np.ndarray, *, colours: Iterable[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Write on (H, W, 3) light, over tissue and beside it; return it, and where (H, W) the ink lies."""
    ink = np.zeros(tissue.shape, bool)
    for colour in colours:
        for along in (True, True, False):
            stroke = np.zeros(tissue.shape, np.uint8)
            width = round(rng.uniform(250, 700) / _MPP)
            line = _along(rng, tissue) if along else _across(rng, tissue)
            cv2.polylines(
                stroke,
                [np.rint(line * 16).astype(np.int32)],
                isClosed=False,
                color=255,
                thickness=width,
                lineType=cv2.LINE_AA,
                shift=4,
            )
            cover = cv2.GaussianBlur(stroke, (0, 0), rng.uniform(1.0, 4.0)).astype(np.float32) / 255
            streaks = np.clip(0.88 + 0.12 * smooth_noise(rng, tissue.shape, (25, 60)), 0.55, 1.15)
            pen = np.array(_PENS_RGB[colour]) / 245 * np.exp(0.08 * rng.standard_normal(3))
            light = light * np.minimum(pen, 0.95).astype(np.float32) ** (cover * streaks)[..., None]
            ink |= cover > 0.5
    return light, ink


def _along(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """Points (n, 2) of a stroke that follows the tissue's outline, now off it, now on it."""
    grown = cv2.boxFilter(tissue[::8, ::8].astype(np.float32), -1, (31, 31)) > rng.uniform(0.05, 0.5)
    contours, _ = cv2.findContours(grown.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    line = max(contours, key=len)[:, 0].astype(np.float64) * 8
    line = np.roll(line, rng.integers(len(line)), axis=0)[: int(rng.uniform(0.15, 0.45) * len(line))]
    tremor = cv2.GaussianBlur(rng.normal(0, 120, line.shape), (1, 0), sigmaX=0.1, sigmaY=12)
    return cv2.GaussianBlur(line, (1, 0), sigmaX=0.1, sigmaY=6) + tremor


def _across(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """Points (n, 2) of a stroke through a place in the tissue."""
    places = np.argwhere(tissue)
    middle = places[rng.integers(len(places))][::-1]
    angle, length = rng.uniform(0, np.pi), rng.uniform(300, 700)
    t = np.linspace(-1, 1, 50)[:, None]
    direction = np.array([np.cos(angle), np.sin(angle)])
    return middle + t * length * direction + (t**2) * rng.normal(0, 120, 2)


def add_glass_artefacts(rng: np.random.Generator, light: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Add to (H, W, 3) light, each by chance: dust, smudges, coverslip edges, padding."""
    light = light.astype(np.float32)
    if rng.random() < 0.6:
        _dust(rng, light)
    if rng.random() < 0.4:
        _smudge(rng, light, tissue)
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 3)):
            _coverslip_edge(rng, light)
    if rng.random() < 0.35:
        _pad(rng, light, tissue)
    return light


def _dust(rng: np.random.Generator, light: np.ndarray) -> None:
    layer = np.zeros(light.shape[:2], np.uint8)
    for _ in range(rng.integers(20, 120)):
        x, y = rng.integers(0, light.shape[1]), rng.integers(0, light.shape[0])
        axes = tuple(int(a) for a in rng.integers(2, 14, 2))  # 16 to 110 µm across
        cv2.ellipse(
            layer, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, int(rng.integers(90, 255)), -1
        )
    amount = cv2.GaussianBlur(layer, (0, 0), 1.2).astype(np.float32) / 255
    light *= np.exp(-amount[..., None] * np.array([1.5, 1.6, 1.75], np.float32))


def _smudge(rng: np.random.Generator, light: np.ndarray, tissue: np.ndarray) -> None:
    """Grey dirt far out of focus, off the tissue."""
    centre = np.argwhere(~tissue)[rng.integers(np.count_nonzero(~tissue))]
    y, x = np.mgrid[0 : light.shape[0], 0 : light.shape[1]].astype(np.float32)
    spread = rng.uniform(60, 150)
    amount = rng.uniform(0.1, 0.4) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * spread**2))
    light *= np.exp(-amount)[..., None]


def _coverslip_edge(rng: np.random.Generator, light: np.ndarray) -> None:
    """A line from border to border: dark, with a coloured fringe where glass breaks the light."""
    height, width = light.shape[:2]
    ends = np.array([[0, rng.uniform(0.02, 0.98) * height], [width, rng.uniform(0.02, 0.98) * height]])
    if abs(ends[0, 1] - ends[1, 1]) > 0.15 * height:
        ends[1, 1] = ends[0, 1] + rng.uniform(-0.08, 0.08) * height
    if rng.random() < 0.5:
        ends = ends[:, ::-1] * np.array([width / height, height / width])
    for shift, absorbs in ((0.0, (0.9, 0.9, 0.9)), (rng.uniform(3, 6), rng.uniform(0, 0.35, 3))):
        layer = np.zeros((height, width), np.uint8)
        points = np.rint((ends + shift) * 16).astype(np.int32)
        cv2.line(layer, points[0], points[1], 255, int(rng.integers(3, 10)), cv2.LINE_AA, 4)
        amount = cv2.GaussianBlur(layer, (0, 0), 1.0).astype(np.float32)[..., None] / 255
        light *= np.exp(-amount * np.array(absorbs, np.float32))


def _pad(rng: np.random.Generator, light: np.ndarray, tissue: np.ndarray) -> None:
    """Black where nothing was scanned: up to the tissue, at one border or two."""
    rows, columns = np.flatnonzero(tissue.any(axis=1)), np.flatnonzero(tissue.any(axis=0))
    light[: int(rng.uniform(0.5, 0.95) * rows[0])] = 0.01
    if rng.random() < 0.5:
        light[:, columns[-1] + int(rng.uniform(0.1, 0.5) * (light.shape[1] - columns[-1])) :] = 0.01


def defocus(rng: np.random.Generator, light: np.ndarray, tissue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blur a round area of (H, W, 3) light by 16 to 60 µm; return it, and where (H, W) it is."""
    depth = cv2.distanceTransform(tissue.view(np.uint8), cv2.DIST_L2, 3)
    places = np.argwhere(depth > 0.4 * depth.max())
    centre = places[rng.integers(len(places))]
    y, x = np.mgrid[0 : light.shape[0], 0 : light.shape[1]].astype(np.float32)
    radius = rng.uniform(800, 1800) / _MPP * (1 + 0.12 * smooth_noise(rng, tissue.shape, 250))
    inside = (np.hypot(y - centre[0], x - centre[1]) < radius).astype(np.float32)
    share = cv2.GaussianBlur(inside, (0, 0), 12)[..., None]  # focus is lost over 100 µm
    soft = cv2.GaussianBlur(light.astype(np.float32), (0, 0), rng.uniform(16, 60) / _MPP)
    return light * (1 - share) + soft * share, share[..., 0] > 0.5
