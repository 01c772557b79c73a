"""Whole slides drawn at 4 µm/px whose tissue and ink are known to the pixel, and a slide in memory."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree
from tissue_artefacts import add_glass_artefacts, defocus, draw_strokes

from tiling import Slide
from tiling.phantom_layout import plan_layout, smooth_noise

MPP = 4.0
SIZE_PX = (2800, 2200)  # 11 x 9 mm
KINDS = ("pale", "strong", "fat", "holes", "pens", "blurred", "fluorescence", "ihc")

# Absorbance (natural log) per unit of dye in red, green, blue
_HAEMATOXYLIN, _EOSIN = np.array([0.60, 0.69, 0.33]), np.array([0.14, 0.80, 0.44])
_DAB, _COUNTERSTAIN = np.array([0.40, 0.66, 0.95]), np.array([0.62, 0.58, 0.26])


@dataclass(frozen=True)
class Drawing:
    """Pixels (H, W, 3) uint8 at 4 µm/px; `tissue` that is to be found, `ink`, bool (H, W).

    `plain` is the same slide before it was written on; the same array where nobody did.
    """

    kind: str
    pixels: np.ndarray
    plain: np.ndarray
    tissue: np.ndarray
    ink: np.ndarray


class ArraySlide(Slide):
    """A slide of arrays: `levels` by its level-0 pixels per pixel; what is not given cannot be read."""

    reader = "array"

    def __init__(self, levels: dict[int, np.ndarray], *, size_px: tuple[int, int], mpp: float) -> None:
        super().__init__(Path("array.svs"), id="array", mpp=mpp, fallback_mpp=None)
        self.level_sizes_px = (size_px, *(a.shape[1::-1] for d, a in levels.items() if d > 1))
        self.properties, self._levels = {}, list(levels.values())

    def _read(self, x: int, y: int, level: int, size_px: tuple[int, int]) -> np.ndarray:
        pixels = self._levels[level - len(self.level_sizes_px)]
        assert (x, y, size_px) == (0, 0, pixels.shape[1::-1])
        return pixels

    def _file_resolutions(self) -> list[tuple[float, str]]:
        return []

    def close(self) -> None:
        """Nothing is open."""


def draw(kind: str, seed: int) -> Drawing:
    """Draw one slide of `kind`; the same seed gives the same slide."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    tissue = _frayed(
        rng, plan_layout(rng, SIZE_PX, MPP, tissue_share=rng.uniform(0.15, 0.45), tumour_share=0).tissue
    )
    if kind == "fluorescence":
        pixels = _compress(_shine(rng, tissue), rng)
        return Drawing(kind, pixels, pixels, _kept(tissue), np.zeros(tissue.shape, bool))
    if kind == "holes":
        tissue &= ~_holes(rng, tissue)
    dyes = _ihc_dyes(rng, tissue.shape) if kind == "ihc" else _dyes(rng, tissue.shape)
    strength = {"pale": rng.uniform(0.16, 0.35), "strong": rng.uniform(1.3, 2.0)}.get(
        kind, rng.uniform(0.6, 1.1)
    )
    density = sum(amount[..., None] * (strength * colour).astype(np.float32) for amount, colour in dyes)
    cover = cv2.GaussianBlur(tissue.astype(np.float32), (0, 0), rng.uniform(0.6, 1.5))
    if kind == "fat":
        cover *= _fat(rng, tissue)
    light = np.exp(-density * cover[..., None])
    truth = tissue
    if kind == "blurred":
        light, gone = defocus(rng, light, tissue)
        truth = tissue & ~gone
    light = add_glass_artefacts(rng, light, tissue)
    return _written_on(rng, light, kind, seed, truth)


def _written_on(
    rng: np.random.Generator, light: np.ndarray, kind: str, seed: int, truth: np.ndarray
) -> Drawing:
    noise = int(rng.integers(2**31))
    plain = _scan(light, noise)
    drawing = Drawing(kind, plain, plain, _kept(truth), np.zeros(truth.shape, bool))
    if kind != "pens":
        return drawing
    light, ink = draw_strokes(rng, light, truth, colours=range(4) if seed % 5 == 4 else (seed % 5,))
    return replace(drawing, pixels=_scan(light, noise), tissue=_kept(truth & ~ink), ink=ink)


def _scan(light: np.ndarray, seed: int) -> np.ndarray:
    """Lamp, camera and JPEG: `light` is the share that gets through, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    shape = light.shape[:2]
    shade = 1 + 0.02 * smooth_noise(rng, shape, 700)  # the lamp
    stripe = int(rng.integers(150, 400))
    bands = rng.normal(1, 0.004, shape[1] // stripe + 1).repeat(stripe)[: shape[1]]  # scanned in stripes
    white = np.array([rng.uniform(232, 250)] * 3) - np.sort(rng.uniform(0, 8, 3))
    pixels = light * white * np.clip(shade * bands, None, 1.03)[..., None]
    pixels += rng.normal(0, 1.2, pixels.shape)
    return _compress(pixels, rng)


def _compress(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 90))]
    bgr = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[..., ::-1]
    _, data = cv2.imencode(".jpg", bgr, quality)
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def _frayed(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """An outline as a knife and a water bath leave it: rough over 20 to 200 µm."""
    inside = cv2.distanceTransform(tissue.view(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~tissue).view(np.uint8), cv2.DIST_L2, 3)
    fray = 5 * smooth_noise(rng, tissue.shape, 40) + 2 * smooth_noise(rng, tissue.shape, 8)
    return inside - outside + fray > 0


def _dyes(rng: np.random.Generator, shape: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Haematoxylin in dense and loose areas and grains of nuclei, eosin in fibres; pale, smooth pools."""
    areas = smooth_noise(rng, shape, 250) + 0.6 * smooth_noise(rng, shape, 60)
    cells = np.clip(0.25 + 0.2 * areas, 0.04, 1) * (1 + 0.55 * _grain(rng, shape))
    fibres = smooth_noise(rng, shape, (2.5, 18)) + smooth_noise(rng, shape, 5)
    eosin = np.clip(0.5 + 0.09 * fibres + 0.08 * smooth_noise(rng, shape, 120), 0.1, 1.5)
    pools = 1 / (1 + np.exp(8 * (smooth_noise(rng, shape, 130) - 1.6)))  # mucus, oedema: a third of the stain
    weaken = (0.35 + 0.65 * pools).astype(np.float32)
    return [(np.maximum(cells, 0) * weaken, _vary(rng, _HAEMATOXYLIN)), (eosin * weaken, _vary(rng, _EOSIN))]


def _ihc_dyes(rng: np.random.Generator, shape: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """A blue counterstain everywhere, brown where the marker is."""
    areas = smooth_noise(rng, shape, 200) + 0.6 * smooth_noise(rng, shape, 50)
    blue = np.clip(0.32 + 0.14 * areas, 0.09, 1) * (1 + 0.5 * _grain(rng, shape))
    marker = 1 / (1 + np.exp(-6 * (smooth_noise(rng, shape, 150) - rng.uniform(-0.5, 1.0))))
    brown = marker * (0.9 + 0.3 * smooth_noise(rng, shape, 20)) * (1 + 0.4 * _grain(rng, shape)) + 0.04
    return [(np.maximum(blue, 0), _vary(rng, _COUNTERSTAIN)), (np.maximum(brown, 0), _vary(rng, _DAB))]


def _vary(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    return colour * np.exp(0.08 * rng.standard_normal(3))


def _grain(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Nuclei of 6 to 10 µm, a pixel or two of 4 µm each."""
    grain = rng.standard_normal(shape).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 0.8)
    return grain / grain.std()


def _fat(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """What share of the stain is left, (H, W): fat cells of 60 to 110 µm keep it in their walls."""
    fatty = (smooth_noise(rng, tissue.shape, 350) > rng.uniform(-0.1, 0.5)) & tissue
    spacing = rng.uniform(60, 110) / MPP
    y, x = np.mgrid[0 : tissue.shape[0] : spacing, 0 : tissue.shape[1] : spacing]
    cells = np.stack([y.ravel(), x.ravel()], axis=1)
    cells = cells + rng.normal(0, 0.3 * spacing, cells.shape)
    places = np.argwhere(fatty)
    near, _ = cKDTree(cells).query(places, k=2)
    left = np.ones(tissue.shape, np.float32)
    left[fatty] = np.where(near[:, 1] - near[:, 0] < 2.4, rng.uniform(0.5, 0.9), 0.015)
    return cv2.GaussianBlur(left, (0, 0), 0.5)


def _holes(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """Lumina, vessels and tears of 0.01 to 1 mm²."""
    holes = np.zeros(tissue.shape, np.uint8)
    places = np.argwhere(cv2.erode(tissue.view(np.uint8), np.ones((61, 61), np.uint8)))
    for y, x in places[rng.integers(len(places), size=rng.integers(8, 20))]:
        radius = np.sqrt(np.exp(rng.uniform(np.log(0.01), np.log(1.0))) / np.pi) * 1000 / MPP
        stretch = rng.uniform(1, 2.2)
        axes = (max(2, round(radius * stretch**0.5)), max(2, round(radius / stretch**0.5)))
        cv2.ellipse(holes, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return _frayed(rng, holes.view(bool))


def _shine(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """Nuclei that shine one by one on a dim ground, on next to nothing; one to three channels."""
    shape = tissue.shape
    colours = [[(0, 0, 1)], [(0, 1, 0), (0, 0, 1)], [(1, 1, 1)], [(1, 0, 0), (0, 1, 0), (0, 0, 1)]]
    cover = cv2.GaussianBlur(tissue.astype(np.float32), (0, 0), 1.5)
    pixels = (
        np.zeros((*shape, 3), np.float32)
        + rng.uniform(0, 5) * (1 + 0.3 * smooth_noise(rng, shape, 900))[..., None]
    )
    for colour in colours[rng.integers(len(colours))]:
        crowd = np.clip(0.5 + 0.3 * smooth_noise(rng, shape, 120), 0.15, 1)
        nuclei = (rng.random(shape) < 0.05 * crowd).astype(np.float32) * rng.uniform(0.5, 1, shape)
        nuclei = cv2.GaussianBlur(nuclei.astype(np.float32), (0, 0), 1.0) * 5
        dim = rng.uniform(8, 20) * (1 + 0.3 * smooth_noise(rng, shape, 80))
        signal = cover * (dim + rng.uniform(60, 220) * nuclei)
        halo = 0.06 * cv2.GaussianBlur(signal, (0, 0), 12)  # stray light
        pixels += (signal + halo)[..., None] * np.array(colour, np.float32)
    return pixels + rng.normal(0, 1.5, pixels.shape)


def _kept(tissue: np.ndarray) -> np.ndarray:
    """What the default options call tissue: pieces above 0.05 mm², holes above 0.02 mm²."""
    for wanted, limit in ((True, 0.05), (False, 0.02)):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            (tissue == wanted).astype(np.uint8), connectivity=4
        )
        small = stats[:, cv2.CC_STAT_AREA] <= limit / (MPP / 1000) ** 2
        small[0] = False
        tissue = tissue ^ small[labels]
    return tissue
