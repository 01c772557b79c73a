"""Where the tissue is."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TissueMask:
    """Tissue of one slide: bool (H, W), with the slide's size it stands for."""

    mask: np.ndarray
    size_level0_px: tuple[int, int]
