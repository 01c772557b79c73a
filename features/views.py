"""Augmented views of patches, for learners that contrast them: each is fully told by its seed.

The pixel work is OpenCV's and the parameters come from a NumPy generator of the patch's own, not from
torchvision: its transforms draw from one global generator, so that a view would depend on which thread
came when and on what shares the batch; and the thread that reads would hold torch tensors, which it needs
for nothing else.
"""

import hashlib

import cv2
import numpy as np

from .recolour import STAINS, recolour

_LEAST_CROP = 0.8  # of the side; the crop is enlarged to the whole
_STRENGTH = 0.2  # a stain's optical density is multiplied by exp(± so much)
_HUE = 0.03  # standard deviation of a stain's direction in each colour; the stains lie 27 degrees apart
_MOST_BLUR_PX = 1.0  # sigma, of every second view
# haematoxylin, eosin and what is neither, in columns of unit length
_BASIS = np.column_stack([STAINS, np.cross(*STAINS.T) / np.linalg.norm(np.cross(*STAINS.T))])
_UNMIX = np.linalg.inv(_BASIS)


def view_seeds(slide_fingerprint: str, rows: np.ndarray, view: int) -> np.ndarray:
    """Return the seeds, uint64 (n,), of one view of some rows of a slide's grid.

    A seed is the first 8 bytes, little-endian, of the SHA-256 of `<slide_fingerprint> <row> <view>` in ASCII.
    """
    told = (f"{slide_fingerprint} {row} {view}".encode() for row in rows.tolist())
    return np.array([int.from_bytes(hashlib.sha256(t).digest()[:8], "little") for t in told], np.uint64)


def augment(patches: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return one augmented view of each square patch, uint8 (n, side, side, 3), fully told by its seed.

    A crop of 0.8 to 1 of the side, enlarged; haematoxylin and eosin stronger or weaker and slightly of
    another hue (white stays white); every second one lightly blurred; one of the square's eight turns
    and flips. `seeds` is uint64 (n,).
    """
    out = np.empty_like(patches)
    for patch, seed, into in zip(patches, seeds.tolist(), out, strict=True):
        rng = np.random.default_rng(seed)
        view = recolour(_cropped(patch, rng), _jitter(rng))
        sigma_px = rng.uniform(-_MOST_BLUR_PX, _MOST_BLUR_PX)
        if sigma_px > 0:
            view = cv2.GaussianBlur(view, (0, 0), sigma_px)
        turned = np.rot90(view, int(rng.integers(4)))
        into[:] = turned[::-1] if rng.integers(2) else turned
    return out


def _cropped(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = len(patch)
    crop = round(side * rng.uniform(_LEAST_CROP, 1))
    x, y = rng.integers(side - crop + 1, size=2).tolist()
    return cv2.resize(patch[y : y + crop, x : x + crop], (side, side), interpolation=cv2.INTER_LINEAR)


def _jitter(rng: np.random.Generator) -> np.ndarray:
    """A map of optical densities (3, 3) that mixes the stains anew, what is neither of them as it was."""
    stains = _BASIS[:, :2] + rng.normal(0, _HUE, (3, 2))
    stains = stains / np.linalg.norm(stains, axis=0) * np.exp(rng.uniform(-_STRENGTH, _STRENGTH, 2))
    return np.column_stack([stains, _BASIS[:, 2]]) @ _UNMIX
