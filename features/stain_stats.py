"""`stain-stats`: colour-deconvolution and texture statistics; no weights, no download, deterministic."""

from itertools import pairwise

import cv2
import numpy as np
from skimage.color import rgb2hed
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

from tiling import ConfigError, fingerprint

from .encoder import Encoder, EncoderCard, EncoderConfig

_VERSION = 1  # raise it whenever a number below changes
_PERCENTILES = (5, 25, 50, 75, 95)
_SIGMAS_PX = (1, 2, 4, 8, 16)
_LBP_RADII_PX = (1, 3)
_GLCM_DISTANCES_PX = (1, 4, 8)
_GLCM_LEVELS = 16
_STAIN_MAX = 0.25  # rgb2hed's value of a strong stain


def _statistics(channel: np.ndarray) -> list[float]:
    mean, spread = channel.mean(), channel.std()
    lopsided = float((((channel - mean) / spread) ** 3).mean()) if spread > 1e-6 else 0.0
    return [mean, spread, lopsided, *np.percentile(channel, _PERCENTILES)]


def _granularity(channel: np.ndarray) -> list[float]:
    """Energy between neighbouring blurs: how much of the stain sits in structures of which size."""
    blurred = [channel, *(cv2.GaussianBlur(channel, (0, 0), sigma) for sigma in _SIGMAS_PX)]
    return [float(np.abs(fine - coarse).mean()) for fine, coarse in pairwise(blurred)]


def _texture(channel: np.ndarray) -> list[float]:
    levels = np.clip(channel * _GLCM_LEVELS, 0, _GLCM_LEVELS - 1).astype(np.uint8)
    pairs = graycomatrix(
        levels, _GLCM_DISTANCES_PX, [0, np.pi / 2], _GLCM_LEVELS, symmetric=True, normed=True
    )
    told = [graycoprops(pairs, p).mean(axis=1) for p in ("contrast", "homogeneity", "energy", "correlation")]
    histograms = []
    bytes_of = (np.clip(channel, 0, 1) * 255).astype(np.uint8)
    for radius in _LBP_RADII_PX:
        codes = local_binary_pattern(bytes_of, 8, radius, method="uniform")
        histograms.append(np.bincount(codes.ravel().astype(int), minlength=10) / codes.size)
    return [*np.concatenate(told), *np.concatenate(histograms)]


def stain_statistics(patch: np.ndarray) -> np.ndarray:
    """Return float32 (72,) that describe one uint8 patch (H, W, 3).

    For haematoxylin, eosin and residual (Ruifrok and Johnston's deconvolution): moments and
    percentiles; for haematoxylin and eosin: energy by structure size; for haematoxylin: grey-level
    co-occurrence (Haralick) and local binary patterns; and the plain colour.
    """
    stains = (rgb2hed(patch) / _STAIN_MAX).astype(np.float32)
    haematoxylin, eosin = stains[..., 0], stains[..., 1]
    colour = patch.reshape(-1, 3) / 255.0
    values = [
        *(value for k in range(3) for value in _statistics(stains[..., k])),
        *_granularity(haematoxylin),
        *_granularity(eosin),
        *_texture(haematoxylin),
        *colour.mean(axis=0),
        *colour.std(axis=0),
    ]
    return np.nan_to_num(np.asarray(values, np.float32))


class StainStats(Encoder):
    """The weightless encoder: `stain_statistics` of each patch."""

    def __init__(self, card: EncoderCard) -> None:
        self.card = card
        self.fingerprint = fingerprint(card.name, _VERSION)

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return float32 (n, dim) for uint8 patches (n, H, W, 3)."""
        rows = [stain_statistics(patch) for patch in patches]
        return np.stack(rows) if rows else np.zeros((0, self.card.dim), np.float32)


def load(card: EncoderCard, config: EncoderConfig, device: str) -> StainStats:
    """Return the encoder; raises ConfigError if weights are given."""
    del device  # there is nothing to put on one
    if config.weights is not None:
        raise ConfigError("encoder stain-stats has no weights to load", hint="leave out --weights")
    return StainStats(card)
