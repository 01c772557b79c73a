"""From an architecture to a network with its weights."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import SwiGLUPacked, to_2tuple  # pyright: ignore[reportPrivateImportUsage]

from tiling import ConfigError

from .architecture import Architecture
from .encoder import EncoderCard, EncoderConfig
from .hub import ABSENT, fetch_weights, retries_untold, unavailable
from .key_maps import NAMES
from .last_block import shorten_last_block
from .pooling import POOLINGS, AttentionalPooler, Pooling, check_side, token_raster
from .weights import load_weights


class Network(torch.nn.Module):
    """A timm model and what is taken from its tokens.

    Images (n, 3, H, W), normalised, become features (n, dim), or the tuple of them and tokens
    (n, side, side, token_dim) where `token_side` is not 0.
    """

    def __init__(self, trunk: torch.nn.Module, pool: Pooling, *, token_side: int = 0) -> None:
        super().__init__()
        self.trunk: Any = trunk
        if not token_side:
            shorten_last_block(trunk, pool)
        self._pool, self._token_side = pool, token_side

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return features, or features and tokens."""
        tokens = self.trunk.forward_features(images)
        features = self._pool(self.trunk, tokens)
        if not self._token_side:
            return features
        return features, token_raster(self.trunk, tokens, self._token_side)


class ConvStem(torch.nn.Module):
    """CTransPath's way from the image to tokens: two convolutions of stride 2, then one of 1 × 1.

    In place of timm's `PatchEmbed`, whose parameters it takes: (n, 3, H, W) -> (n, H / 4, W / 4, width).
    """

    def __init__(
        self, *, img_size: Any, patch_size: int, in_chans: int, embed_dim: int, norm_layer: Any, **_: Any
    ) -> None:
        super().__init__()
        self.patch_size = (patch_size, patch_size)
        height, width = to_2tuple(img_size)
        self.grid_size = (int(height) // patch_size, int(width) // patch_size)
        layers: list[torch.nn.Module] = []
        widths = (in_chans, embed_dim // 8, embed_dim // 4)
        for before, after in pairwise(widths):
            layers += [
                torch.nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                torch.nn.BatchNorm2d(after),
                torch.nn.ReLU(),
            ]
        self.proj = torch.nn.Sequential(*layers, torch.nn.Conv2d(widths[-1], embed_dim, 1))
        self.norm = norm_layer(embed_dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return tokens on their raster, channels last."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


def create_trunk(architecture: Architecture, card: EncoderCard, *, pretrained: bool = False) -> Any:
    """Create the timm model of an architecture, its weights random or, if timm has them, `pretrained`."""
    options: dict[str, Any] = {"num_classes": 0, **architecture.options}
    if architecture.swiglu:
        options |= {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
    if architecture.norm_eps is not None:
        options["norm_layer"] = partial(torch.nn.LayerNorm, eps=architecture.norm_eps)
    if architecture.conv_stem:
        options["embed_layer"] = ConvStem
    if card.px_multiple and card.token_dim:  # a transformer whose position embedding is to fit the patch
        options["dynamic_img_size"] = True
    trunk: Any = timm.create_model(architecture.timm_name, pretrained=pretrained, **options)
    if card.pooling == "attentional":
        trunk.head = AttentionalPooler(trunk.num_features, card.dim)
    return trunk


def build_network(architecture: Architecture, card: EncoderCard, config: EncoderConfig) -> Network:
    """Build a network with weights from `config.weights` or, without them, from the hub.

    Raises:
        ConfigError: the local weights do not fit, or more tokens are asked for than there are.
        SlidebagError: the hub cannot be reached, or does not give the weights.
    """
    token_side = config.token_side if card.token_dim else 0
    if config.weights is None and architecture.hub is None:
        try:
            with retries_untold():
                trunk = create_trunk(architecture, card, pretrained=True)
        except ABSENT as error:
            raise unavailable(card, error) from error
    else:
        path = fetch_weights(card, architecture) if config.weights is None else Path(config.weights)
        trunk = _to_be_filled(architecture, card)
        load_weights(trunk, path, translate=NAMES[architecture.names], preferred=architecture.file)
    if token_side and card.px_multiple is None:
        check_side(token_side, _raster_side(trunk, card))
    return Network(trunk, POOLINGS[card.pooling], token_side=token_side)


def check_card(architecture: Architecture, card: EncoderCard) -> None:
    """Raise ConfigError if a network gives other vectors or tokens than its card tells.

    A patch of `input_px` and the next larger one go through it without numbers, which takes some ms; where
    they do not fit, errors are torch's and timm's own.
    """
    names = ("dim", "token_dim") if card.token_dim else ("dim",)
    with torch.device("meta"), torch.inference_mode():
        trunk = create_trunk(architecture, card).eval()
        network = Network(trunk, POOLINGS[card.pooling], token_side=len(names) - 1)
        for side in {card.input_px, card.input_px + (card.px_multiple or 0)}:
            found = network(torch.empty(1, 3, side, side))
            for name, vector in zip(names, found if card.token_dim else (found,), strict=True):
                if vector.numel() != getattr(card, name):
                    raise ConfigError(
                        f"{name} is {getattr(card, name)}, that of the network {vector.numel()}"
                    )


def _to_be_filled(architecture: Architecture, card: EncoderCard) -> Any:
    """Create a trunk without numbers, which for a billion of them saves their drawing and their memory.

    Not where it has tensors that no weight file brings.
    """
    with torch.device("meta"):
        trunk = create_trunk(architecture, card)
    brought = trunk.state_dict().keys()
    others = [name for name, _ in trunk.named_buffers() if name not in brought]
    others += [k for m in trunk.modules() for k, v in vars(m).items() if isinstance(v, torch.Tensor)]
    return create_trunk(architecture, card) if others else trunk


def _raster_side(trunk: Any, card: EncoderCard) -> int:
    return card.input_px // trunk.feature_info[-1]["reduction"]
