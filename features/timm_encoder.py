"""Every model of timm by name, also from a hub repository or a local folder in timm's layout."""

from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config  # pyright: ignore[reportPrivateImportUsage]

from tiling import ConfigError

from .architecture import ELSEWHERE, Architecture
from .encoder import EncoderCard, EncoderEntry
from .hub import ABSENT, unavailable

_FLEXIBLE = ("vision_transformer", "eva")  # families whose position embedding fits itself to the patch


def timm_entry(timm_name: str) -> EncoderEntry:
    """Return the registry entry of any timm model, its card filled from timm's own record.

    Raises:
        ConfigError: timm knows no such model.
        SlidebagError: the hub repository that is named cannot be read.
    """
    model = _outline(timm_name)
    told = resolve_model_data_config(model)
    is_flexible = type(model).__module__.rpartition(".")[2] in _FLEXIBLE
    card = EncoderCard(
        name=f"timm:{timm_name}",
        dim=int(getattr(model, "head_hidden_size", None) or model.num_features),
        input_px=told["input_size"][-1],
        mean=tuple(told["mean"]),
        std=tuple(told["std"]),
        px_multiple=int(model.patch_embed.patch_size[0]) if is_flexible else None,
        pooling="as in timm",
        token_dim=int(model.num_features) if is_flexible else None,
        licence=str(getattr(model, "pretrained_cfg", {}).get("license") or "see source"),
        source=f"timm {timm_name}",
    )
    return EncoderEntry(card, Architecture(timm_name=timm_name))


def _outline(timm_name: str) -> Any:
    """Return the model without numbers."""
    architecture = timm_name.partition(".")[0]
    is_elsewhere = timm_name.startswith(ELSEWHERE)
    if not is_elsewhere and not timm.is_model(architecture):
        near = ", ".join(timm.list_models(f"*{architecture[:12]}*")[:4]) or "timm.list_models()"
        raise ConfigError(f"timm has no model {timm_name!r}", hint=f"did you mean {near}?")
    try:
        with torch.device("meta"):
            return timm.create_model(timm_name, pretrained=False, num_classes=0)
    except ABSENT as error:
        if is_elsewhere:
            source = timm_name.partition(":")[2]
            card = EncoderCard(name=f"timm:{timm_name}", dim=0, input_px=0, licence="", source=source)
            raise unavailable(card, error) from error
        raise ConfigError(  # the part behind the dot
            f"timm has no weights {timm_name!r} ({error})",
            hint=f"choose from {', '.join(timm.list_pretrained(architecture + '*')) or 'none'}",
        ) from error
