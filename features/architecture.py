"""What a network is made of and where its weights lie: facts alone, nothing is built before it is called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .encoder import Encoder, EncoderCard, EncoderConfig

LOCAL_DIR = "local-dir:"
ELSEWHERE = ("hf-hub:", LOCAL_DIR)  # timm's own words for what it has not registered


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How to build and load a network; called, it is the `load` of an `EncoderEntry`.

    What is taken from its tokens is not told here but by the card's `pooling`.
    """

    timm_name: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of timm.create_model
    swiglu: bool = False  # gated feed-forward layers with SiLU
    norm_eps: float | None = None  # of the layer norms; None: timm's
    conv_stem: bool = False  # CTransPath's convolutions where timm cuts patches
    names: str = "timm"  # whose tensor names the authors' file has, see `key_maps.NAMES`
    hub: str | None = None  # repository on the Hugging Face hub; None: timm knows; empty: on no hub
    file: str = ""  # the file in it; empty: model.safetensors or pytorch_model.bin

    def __call__(self, card: EncoderCard, config: EncoderConfig, device: str) -> Encoder:
        """Build the network, load its weights, and put it onto a device."""
        from .network import build_network  # torch and timm wait until they are needed
        from .neural_encoder import NeuralEncoder

        return NeuralEncoder(card, build_network(self, card, config), config, device=device)
