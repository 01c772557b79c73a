"""Every vision transformer and CNN of timm by name; DINO, DINOv2 and DINOv3 first among them."""

import sys
from collections.abc import Callable
from typing import Any

import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from timm.data import resolve_model_data_config  # pyright: ignore[reportPrivateImportUsage]
from timm.models import is_model_in_modules

from tiling import ConfigError, SlidebagError

from .encoder import ENCODERS, PREFIXES, Encoder, EncoderCard, EncoderConfig, EncoderEntry
from .neural_encoder import NeuralEncoder
from .weights import load_weights

_FLEXIBLE = ("vision_transformer", "eva")  # families whose position embedding fits itself to the patch
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def timm_entry(timm_name: str) -> EncoderEntry:
    """Return the registry entry of any timm model, its card filled from timm's own record.

    Raises:
        ConfigError: timm knows no such model.
    """
    architecture = timm_name.partition(".")[0]
    if not timm.is_model(architecture):
        near = ", ".join(timm.list_models(f"*{architecture[:12]}*")[:4]) or "timm.list_models()"
        raise ConfigError(f"timm has no model {timm_name!r}", hint=f"did you mean {near}?")
    try:
        with torch.device("meta"):
            model = timm.create_model(timm_name, pretrained=False, num_classes=0)
    except RuntimeError as error:  # the part behind the dot
        raise ConfigError(
            f"timm has no weights {timm_name!r} ({error})",
            hint=f"choose from {', '.join(timm.list_pretrained(architecture + '*')) or 'none'}",
        ) from error
    told = resolve_model_data_config(model)
    patch_px = _patch_px(model) if is_model_in_modules(architecture, _FLEXIBLE) else None
    card = EncoderCard(
        name=f"timm:{timm_name}",
        dim=_dim(model),
        input_px=told["input_size"][-1],
        mean=tuple(told["mean"]),
        std=tuple(told["std"]),
        px_multiple=patch_px,
        licence=str(getattr(model, "pretrained_cfg", {}).get("license") or "see source"),
        source=f"timm {timm_name}",
    )
    return EncoderEntry(card, _loader(timm_name))


def _dim(model: torch.nn.Module) -> int:
    width: Any = getattr(model, "head_hidden_size", None) or model.num_features
    return int(width)


def _patch_px(model: torch.nn.Module) -> int:
    embed: Any = getattr(model, "patch_embed", None)
    return int(embed.patch_size[0]) if embed is not None else 1


def _loader(timm_name: str) -> Callable[[EncoderCard, EncoderConfig, str], Encoder]:
    def load(card: EncoderCard, config: EncoderConfig, device: str) -> Encoder:
        return NeuralEncoder(card, build_model(timm_name, card, config), config, device=device)

    return load


def build_model(timm_name: str, card: EncoderCard, config: EncoderConfig) -> torch.nn.Module:
    """Build a timm model with weights from `config.weights` or, without them, from the hub.

    Raises:
        ConfigError: the local weights do not fit.
        SlidebagError: the hub cannot be reached or has no weights.
    """
    flexible: dict[str, Any] = {"dynamic_img_size": True} if card.px_multiple else {}
    if config.weights is not None:
        model = timm.create_model(timm_name, pretrained=False, num_classes=0, **flexible)
        module = sys.modules[type(model).__module__]
        load_weights(model, config.weights, convert=getattr(module, "checkpoint_filter_fn", None))
        return model
    try:
        return timm.create_model(timm_name, pretrained=True, num_classes=0, **flexible)
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        raise SlidebagError(
            f"encoder {card.name}: no weights from {card.source} ({type(error).__name__})",
            hint="connect to the network once, or give a local file with --weights",
        ) from error


def _register(name: str, timm_name: str, dim: int, px: int, licence: str) -> None:
    card = EncoderCard(
        name=name,
        dim=dim,
        input_px=224,
        px_multiple=px,
        licence=licence,
        source=f"timm {timm_name}",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    )
    ENCODERS.register(name)(EncoderEntry(card, _loader(timm_name)))


_register("dino-vits16", "vit_small_patch16_224.dino", 384, 16, "Apache-2.0")
_register("dino-vitb16", "vit_base_patch16_224.dino", 768, 16, "Apache-2.0")
_register("dinov2-vits14", "vit_small_patch14_dinov2.lvd142m", 384, 14, "Apache-2.0")
_register("dinov2-vitb14", "vit_base_patch14_dinov2.lvd142m", 768, 14, "Apache-2.0")
_register("dinov2-vitl14", "vit_large_patch14_dinov2.lvd142m", 1024, 14, "Apache-2.0")
_register("dinov3-vits16", "vit_small_patch16_dinov3.lvd1689m", 384, 16, "DINOv3 License")
_register("dinov3-vitb16", "vit_base_patch16_dinov3.lvd1689m", 768, 16, "DINOv3 License")
_register("dinov3-vitl16", "vit_large_patch16_dinov3.lvd1689m", 1024, 16, "DINOv3 License")
PREFIXES["timm"] = timm_entry
