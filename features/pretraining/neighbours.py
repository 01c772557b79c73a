"""How well an encoder that is being trained tells apart what it was never told: nearest neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from features.encoder import EncoderCard
from features.near import nearest_rows, vote_of_near
from features.pooling import POOLINGS
from features.tile_folder import as_patch
from tiling import SlidebagError

from .sources import Tiles

_K, _MOST = 20, 2000  # neighbours; pictures on each side
_BATCH = 64


@dataclass(frozen=True)
class Probe:
    """Labelled tiles that are learned from (without their labels), and held-out ones that are judged."""

    tiles: Tiles
    bank: np.ndarray
    asked: np.ndarray

    @classmethod
    def of(cls, tiles: Tiles, trained: np.ndarray, held_out: np.ndarray, seed: int) -> "Probe | None":
        """Draw at most so many of each, None where there are not two labels on both sides."""
        draw = np.random.default_rng(seed)
        sides = []
        for side in (trained, held_out):
            known = np.array([k for k in side.tolist() if tiles.labels[k]], int)
            sides.append(np.sort(draw.permutation(known)[:_MOST]))
        labels = [{tiles.labels[k] for k in side.tolist()} for side in sides]
        return cls(tiles, *sides) if min(map(len, labels)) > 1 else None

    def __call__(
        self, trunk: torch.nn.Module, card: EncoderCard, device: str, broken: dict[str, str]
    ) -> float | None:
        """Return the share of held-out tiles whose nearest ones have their label, the mean of the classes.

        What cannot be read is left out, and `broken` is told it by name; None if nothing is left of a side.
        """
        sides = [self._vectors(trunk, card, device, side, broken) for side in (self.bank, self.asked)]
        (bank, labels), (asked, truth) = sides
        if not len(labels) or not len(truth):
            return None
        classes, of_bank = np.unique(labels, return_inverse=True)
        votes = vote_of_near(*nearest_rows(asked, bank, _K), of_bank, len(classes))
        is_right = classes[votes.argmax(axis=1)] == truth
        return float(np.mean([is_right[truth == label].mean() for label in np.unique(truth)]))

    @torch.no_grad()
    def _vectors(
        self, trunk: torch.nn.Module, card: EncoderCard, device: str, side: np.ndarray, broken: dict[str, str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors, float32 (n, dim), and the labels of the tiles of a side that can be read."""
        mean, std = (torch.tensor(told, device=device).view(3, 1, 1) for told in (card.mean, card.std))
        was_training = trunk.training
        trunk.eval()
        found, labels = [np.empty((0, card.dim), np.float32)], []
        for patches in self._patches(card.input_px, side.tolist(), broken):
            pixels = torch.from_numpy(np.stack(list(patches.values())))
            images = pixels.to(device).permute(0, 3, 1, 2).float() / 255
            tokens = trunk.forward_features((images - mean) / std)  # pyright: ignore[reportCallIssue]
            found.append(POOLINGS[card.pooling](trunk, tokens).cpu().numpy())
            labels += [self.tiles.labels[k] for k in patches]
        trunk.train(was_training)
        return np.concatenate(found), np.array(labels)

    def _patches(
        self, side_px: int, indices: list[int], broken: dict[str, str]
    ) -> Iterator[dict[int, np.ndarray]]:
        for start in range(0, len(indices), _BATCH):
            patches = {}
            for k in indices[start : start + _BATCH]:
                try:
                    patches[k] = as_patch(self.tiles.take(k), side_px)
                except SlidebagError as error:
                    broken[self.tiles.name(k)] = str(error)
            if patches:
                yield patches
