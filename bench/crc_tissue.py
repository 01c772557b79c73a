"""A slide painted from real patches: places on a coarse raster, then pixels at level 0."""

from dataclasses import dataclass

import cv2
import numpy as np

TRUTH_PX = 16  # level-0 pixels per pixel of a truth mask; places are decided on this raster
TILE_PX = 224  # side of a source patch
_FEATHER_PX = 8  # neighbours share so much, and fade into each other there
_PITCH_PX = TILE_PX - _FEATHER_PX
_ADENOMA_SHARES = (0.05, 0.15)
_TISSUE_SHARES = (0.35, 0.45)


@dataclass(frozen=True)
class Places:
    """Bool (H, W), a pixel for TRUTH_PX of level 0; `tumour` and `adenoma` are disjoint parts of `tissue`."""

    tissue: np.ndarray
    tumour: np.ndarray
    adenoma: np.ndarray


def _noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Smooth noise of unit spread."""
    small = (max(3, round(shape[0] / scale) + 2), max(3, round(shape[1] / scale) + 2))
    field = cv2.resize(rng.standard_normal(small), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return field / field.std()


def lay_places(
    shape: tuple[int, int], outlines: dict | None, tumour_share: float, rng: np.random.Generator
) -> Places:
    """Lay out two to four pieces of tissue, a tumour's `outlines` in them, and adenoma islands.

    `shape` is that of the masks. `outlines` holds rings of (x, y) under "positive" and holes under
    "negative", scaled until `tumour_share` of the tissue is tumour; None for no tumour.
    """
    tissue = _lay_tissue(shape, rng)
    tumour = np.zeros(shape, bool)
    if outlines is not None:
        tumour = _fit_outlines(outlines, tissue, tumour_share, rng)
    free = tissue & ~cv2.dilate(tumour.astype(np.uint8), np.ones((5, 5))).astype(bool)
    side = min(shape)
    islands = _noise(rng, shape, side / 9) + 0.25 * _noise(rng, shape, side / 30)
    share = min(1.0, rng.uniform(*_ADENOMA_SHARES) * tissue.sum() / max(1, free.sum()))
    return Places(tissue, tumour, free & (islands > np.quantile(islands[free], 1 - share)))


def _lay_tissue(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    side, field = min(shape), np.full(shape, -np.inf)
    n = int(rng.integers(2, 5))
    turn = rng.uniform(0, 2 * np.pi) + np.arange(n) * 2 * np.pi / n + rng.normal(0, 0.2, n)
    for angle in turn:
        centre = np.array(shape)[::-1] * (0.5 + 0.29 * np.array([np.cos(angle), np.sin(angle)]))
        tilt, stretch, size = rng.uniform(0, np.pi), rng.uniform(1, 1.5), rng.uniform(0.8, 1.15)
        along = (x - centre[0]) * np.cos(tilt) + (y - centre[1]) * np.sin(tilt)
        across = (y - centre[1]) * np.cos(tilt) - (x - centre[0]) * np.sin(tilt)
        field = np.maximum(field, -np.hypot(along / stretch, across * stretch) / (size * side))
    for amplitude, scale in ((0.045, side / 6), (0.02, side / 16), (0.006, side / 60)):
        field += amplitude * _noise(rng, shape, scale)
    margin = np.minimum(np.minimum(x, shape[1] - 1 - x), np.minimum(y, shape[0] - 1 - y)) / side
    field -= 4 * np.clip(0.04 - margin, 0, None)
    return field > np.quantile(field, 1 - rng.uniform(*_TISSUE_SHARES))


def _fit_outlines(outlines: dict, tissue: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Turn the outlines, put the largest deep in the tissue, and scale all until `share` of it is tumour."""
    positive = [np.array(p["vertices"], np.float64) for p in outlines["positive"]]
    negative = [np.array(p["vertices"], np.float64) for p in outlines["negative"]]
    largest = max(positive, key=lambda p: cv2.contourArea(p.astype(np.float32)))
    anchor = _innermost(largest, negative)
    depth = cv2.distanceTransform(tissue.astype(np.uint8), cv2.DIST_L2, 3)
    deep = np.argwhere(depth > 0.5 * depth.max())
    place = deep[rng.integers(len(deep))][::-1]
    angle, flip = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (1.0, flip)

    def at(scale: float) -> np.ndarray:
        mask = np.zeros(tissue.shape, np.uint8)
        for value, rings in ((1, positive), (0, negative)):
            for ring in rings:
                corners = ((ring - anchor) @ turn.T * scale + place) * 16
                cv2.fillPoly(
                    mask, [np.clip(np.rint(corners), -(2**27), 2**27).astype(np.int32)], value, shift=4
                )
        return (mask > 0) & tissue

    wanted = share * tissue.sum()
    low, high = np.log(1e-6), np.log(10.0)
    for _ in range(28):  # what is covered grows with the scale, up to all of the tissue
        middle = (low + high) / 2
        low, high = (middle, high) if at(np.exp(middle)).sum() < wanted else (low, middle)
    return at(np.exp(high))


def _innermost(ring: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """The point (x, y) inside `ring` and outside its `holes` that is farthest from both."""
    corner, scale = ring.min(axis=0), 400 / np.ptp(ring, axis=0).max()
    mask = np.zeros((408, 408), np.uint8)
    for value, outline in ((1, ring), *((0, hole) for hole in holes)):
        cv2.fillPoly(mask, [np.rint((outline - corner) * scale + 3).astype(np.int32)], value)
    y, x = np.unravel_index(cv2.distanceTransform(mask, cv2.DIST_L2, 3).argmax(), mask.shape)
    return (np.array([x, y]) - 3) / scale + corner


def paint_slide(places: Places, patches: dict[str, list[np.ndarray]], rng: np.random.Generator) -> np.ndarray:
    """Return level 0, (H, W, 3) uint8: white glass, tissue over it, adenoma and tumour over that.

    `patches` are 224 px RGB by kind: "healthy", "adenoma", "tumour".
    """
    height, width = (side * TRUTH_PX for side in places.tissue.shape)
    grain = rng.integers(0, 5, (height, width), dtype=np.uint8)
    canvas = cv2.merge([245 - grain, 244 - grain, 246 - grain])
    layer = np.empty_like(canvas)
    masks = {"healthy": places.tissue, "adenoma": places.adenoma, "tumour": places.tumour}
    for kind, mask in masks.items():
        if mask.any():
            _paint_kind(canvas, layer, mask, patches[kind], rng)
    return canvas


def _paint_kind(canvas: np.ndarray, layer: np.ndarray, mask: np.ndarray, patches: list, rng) -> None:
    """Paste `patches` on a lattice of its own into `layer`, then show it on `canvas` where `mask` is set."""
    size = canvas.shape[1::-1]
    smooth = cv2.GaussianBlur(mask.astype(np.uint8) * 255, (5, 5), 0.8)  # or the outline is a staircase
    alpha = cv2.resize(smooth, size, interpolation=cv2.INTER_CUBIC)
    alpha = cv2.LUT(alpha, np.clip(np.arange(256) * 2.5 - 191, 0, 255).astype(np.uint8))
    offset = rng.integers(-_PITCH_PX, 1, 2)
    cells = [
        (x, y)
        for y in range(offset[1], size[1], _PITCH_PX)
        for x in range(offset[0], size[0], _PITCH_PX)
        if alpha[max(0, y) : y + TILE_PX, max(0, x) : x + TILE_PX].any()
    ]
    for (x, y), (patch, turn) in zip(cells, _spread(len(patches), np.array(cells), rng), strict=True):
        _paste(layer, _turned(patches[patch], turn), x, y)
    for x, y in cells:
        cell = slice(max(0, y), y + _PITCH_PX), slice(max(0, x), x + _PITCH_PX)
        weight = alpha[cell][..., None].astype(np.uint16)
        mixed = canvas[cell] * (255 - weight) + layer[cell] * weight
        canvas[cell] = (mixed + 127) // 255


def _spread(n_patches: int, cells: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    """A patch and one of its 8 turns for each cell: all equally often, repeats far from each other."""
    nearest = np.full((n_patches, len(cells)), np.inf)
    uses = np.zeros(n_patches, int)
    turns = rng.permuted(np.tile(np.arange(8), (n_patches, 1)), axis=1)
    chosen = []
    for i, cell in enumerate(cells):
        candidates = rng.permutation(np.flatnonzero(uses <= uses.min() + 1))
        patch = candidates[nearest[candidates, i].argmax()]
        chosen.append((int(patch), int(turns[patch, uses[patch] % 8])))
        uses[patch] += 1
        nearest[patch] = np.minimum(nearest[patch], np.hypot(*(cells - cell).T))
    return chosen


def _turned(patch: np.ndarray, turn: int) -> np.ndarray:
    return np.rot90(patch[:, ::-1] if turn >= 4 else patch, turn % 4)


def _paste(layer: np.ndarray, patch: np.ndarray, x: int, y: int) -> None:
    """Put `patch` into `layer` with its corner at (x, y); it fades in over what lies left of and above it."""
    left, top = max(0, -x), max(0, -y)
    target = layer[max(0, y) : y + TILE_PX, max(0, x) : x + TILE_PX]
    patch = patch[top : top + target.shape[0], left : left + target.shape[1]].astype(np.uint16)
    fade = np.minimum(np.arange(1, TILE_PX + 1), _FEATHER_PX).astype(np.uint16)
    for strip, weight in (
        (np.s_[: max(0, _FEATHER_PX - top)], fade[top : top + patch.shape[0], None, None]),
        (np.s_[:, : max(0, _FEATHER_PX - left)], fade[None, left : left + patch.shape[1], None]),
    ):
        weight = np.broadcast_to(weight, patch.shape)[strip]
        patch[strip] = (patch[strip] * weight + target[strip] * (_FEATHER_PX - weight)) // _FEATHER_PX
    target[:] = patch
