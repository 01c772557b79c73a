"""The queue of keys that the contrastive loss compares with, oldest out first."""

import torch
from torch import Tensor
from torch.nn import functional

NO_CLASS = -1


class KeyQueue:
    """The last keys with their classes: `keys` (M, E) of unit norm from the start, `classes` int64 (M,)."""

    def __init__(self, size: int, dim: int, generator: torch.Generator) -> None:
        # random directions until real keys take their place: negatives to all, positive to none
        self.keys = functional.normalize(torch.randn(size, dim, generator=generator), dim=1)
        self.classes = torch.full((size,), NO_CLASS)
        self._next = 0

    def push(self, keys: Tensor, classes: Tensor) -> None:
        """Put keys (n, E) of unit norm and their classes (n,) in the place of the oldest ones."""
        places = (self._next + torch.arange(len(keys))) % len(self.keys)
        # new tensors: the loss of this step still needs the old ones for its gradient
        self.keys = self.keys.index_copy(0, places, keys.detach())
        self.classes = self.classes.index_copy(0, places, classes)
        self._next = int(places[-1] + 1) % len(self.keys)
