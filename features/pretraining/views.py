"""Views of tiles to learn from: each is fully told by a seed, whoever makes it and beside whatever.

torchvision's transforms draw from torch's global generator, which is seeded for each tile and put back.
"""

import numpy as np
import torch
from skimage.color import hed_from_rgb, rgb_from_hed
from torchvision.transforms import v2

from features.recolour import recolour

from .config import PretrainConfig

_GLOBAL, _LOCAL = (0.4, 1.0), (0.08, 0.4)  # shares of the tile's area
_RATIO = (0.9, 1.1)  # of a crop's sides
_LIGHT = (0.5, 1.0)  # of the crop that a student and its teachers see


def turned(images: np.ndarray, way: int) -> np.ndarray:
    """Return pictures, whose sides are axes 1 and 2, in one of eight turns; from 4 on they are flipped."""
    found = np.rot90(images, way % 4, (1, 2))
    return np.ascontiguousarray(found[:, :, ::-1] if way >= 4 else found)


def turned_back(images: np.ndarray, way: int) -> np.ndarray:
    """Return what `turned` was given."""
    return np.rot90(images[:, :, ::-1] if way >= 4 else images, -way % 4, (1, 2))


class Turn(torch.nn.Module):
    """One of the square's eight turns and flips: tissue has no up."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image (3, side, side), turned."""
        return torch.from_numpy(turned(image.numpy(), int(torch.randint(8, ()))))


class StainJitter(torch.nn.Module):
    """Haematoxylin, eosin and DAB stronger or weaker, each by exp(± strength); white stays white.

    The stains are those of Ruifrok and Johnston's deconvolution (scikit-image's).
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self._strength = strength

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return a uint8 image (3, H, W) of other stains."""
        scale = torch.empty(3).uniform_(-self._strength, self._strength).exp().numpy()
        # densities are rows times hed_from_rgb; recolour multiplies columns
        matrix = (hed_from_rgb @ np.diag(scale) @ rgb_from_hed).T
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return torch.from_numpy(recolour(pixels, matrix)).permute(2, 0, 1)


class Views:
    """Makes the views of a tile: two large and some small ones, or the one that student and teachers see.

    A student of teachers sees what they see, in the same colours: in others it cannot know what they tell.
    """

    def __init__(self, config: PretrainConfig) -> None:
        self._config = config
        self._crops = _crops(config)

    def __call__(self, tile: np.ndarray, epoch: int, index: int) -> list[torch.Tensor]:
        """Return uint8 (3, side, side) images of a uint8 tile (H, W, 3), whose index this is."""
        config, image = self._config, torch.from_numpy(np.array(tile)).permute(2, 0, 1)
        seed = view_seed(config.seed, taught_view(config, epoch) if config.teacher else epoch, index)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed looks at GPUs too, each time
            return [make(image).contiguous() for make in self._crops]


def taught_view(config: PretrainConfig, epoch: int) -> int:
    """Return which of the views that teachers see is of this epoch."""
    return epoch % config.teacher_views if config.teacher_views else epoch


def _crops(config: PretrainConfig) -> list[v2.Compose]:
    if config.teacher:
        return [_maker(config.view_px, _LIGHT, stain=config.stain, blur=0.1, colour=0.3)]
    large = [
        _maker(config.input_px, _GLOBAL, stain=config.stain, blur=blur, colour=0.8) for blur in (0.8, 0.1)
    ]
    small = _maker(config.local_px, _LOCAL, stain=config.stain, blur=0.5, colour=0.8)
    return large + [small] * config.local_crops


def _maker(side: int, area: tuple[float, float], *, stain: float, blur: float, colour: float) -> v2.Compose:
    crop = v2.RandomResizedCrop(side, scale=area, ratio=_RATIO, antialias=True)
    jitter = v2.RandomApply([v2.ColorJitter(0.2, 0.2, 0.1, 0.02)], colour)
    smooth = v2.RandomApply([v2.GaussianBlur(5, (0.1, 2.0))], blur)
    return v2.Compose([crop, Turn(), StainJitter(stain), jitter, smooth])


def view_seed(*numbers: int) -> int:
    """Return a seed that belongs to some numbers, such as run, epoch and tile, and to no others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
