"""An encoder that is a network: its card, its weights' digest, and the engine that runs it."""

import hashlib

import numpy as np
import torch

from tiling import fingerprint

from .encoder import Encoder, EncoderCard, EncoderConfig, fingerprint_with_stain
from .engine import start_engine
from .tile_folder import as_patches


class NeuralEncoder(Encoder):
    """A torch network on an engine.

    `network` maps float32 images (n, 3, H, W), normalised by the card, to features (n, dim), or to the
    tuple of them and tokens (n, side, side, token_dim) where `config.token_side` asks for tokens.
    `known_as` is what the fingerprint tells of the network besides its weights, if not the card's name.
    """

    def __init__(
        self,
        card: EncoderCard,
        network: torch.nn.Module,
        config: EncoderConfig,
        *,
        device: str,
        weights_digest: str = "",
        known_as: str = "",
    ) -> None:
        self.card = card
        self._known_as = known_as or card.name
        self._token_side = config.token_side
        # before an engine moves or changes the weights
        self.weights_digest = weights_digest or _digest(network)
        self._engine = start_engine(network, card, config, device)
        self.precision, self.engine, self.batch = (
            self._engine.precision, self._engine.name, self._engine.batch,
        )  # fmt: skip
        self.fingerprint = self.fingerprint_in(self.precision)

    def fingerprint_in(self, precision: str) -> str:
        """Return the fingerprint of the same weights in any precision."""
        # engines and devices agree within their precision; what is left is no other encoder
        card = self.card
        told = fingerprint(
            self._known_as, card.mean, card.std, card.pooling, self.weights_digest, precision,
            *([card.input_px] if card.resizes else []),
        )  # fmt: skip
        return fingerprint_with_stain(told, self.config.stain)

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return float32 (n, dim) for uint8 patches (n, H, W, 3)."""
        if not len(patches):
            return np.zeros((0, self.card.dim), np.float32)
        return self._run(patches)[0]

    def encode_tokens(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 features (n, dim) and tokens (n, side, side, token_dim)."""
        if not self._token_side or self.card.token_dim is None:
            return super().encode_tokens(patches)
        side = self._token_side
        if not len(patches):
            return self.encode(patches), np.zeros((0, side, side, self.card.token_dim), np.float32)
        features, tokens = self._run(patches)
        return features, tokens

    def _run(self, patches: np.ndarray) -> list[np.ndarray]:
        found = self._engine.run(as_patches(patches, self.card.input_px) if self.card.resizes else patches)
        self.batch = self._engine.batch  # fewer, where memory has run out
        return found


def _digest(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
