"""Colours of stained tissue: a linear map of optical densities, as mixing stains anew is one."""

import cv2
import numpy as np

WHITE = (255.0, 255.0, 255.0)
# Haematoxylin and eosin in their columns, as optical densities of red, green and blue: the reference
# that goes with Macenko's method (doi:10.1109/ISBI.2009.5193250), as its implementations share it
STAINS = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])


def densities_of_levels(glass: tuple[float, ...] = WHITE) -> np.ndarray:
    """Return the optical density, natural logarithm, of each grey level, float32 (256, 3): 0 at the glass."""
    levels = np.arange(256)[:, None]
    return np.maximum(-np.log((levels + 1) / (np.array(glass) + 1)), 0).astype(np.float32)


def density(pixels: np.ndarray, glass: tuple[float, ...] = WHITE) -> np.ndarray:
    """Return the optical density, float32, of uint8 pixels (N, 3) over glass of that colour."""
    table = densities_of_levels(glass)
    return np.stack([table[pixels[:, c], c] for c in range(3)], axis=1)


def recolour(patch: np.ndarray, matrix: np.ndarray, glass: tuple[float, ...] = WHITE) -> np.ndarray:
    """Return a uint8 patch (H, W, 3) over white whose optical densities are `matrix` (3, 3) times its own."""
    table = densities_of_levels(glass).reshape(1, 256, 3)
    light = cv2.exp(-cv2.transform(cv2.LUT(patch, table), matrix.astype(np.float32)))
    return cv2.convertScaleAbs(light, alpha=256.0, beta=-1.0)
