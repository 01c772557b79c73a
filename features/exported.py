"""What is known of a network that came as one exported file: the JSON beside it says what it wants to see."""

import json
from pathlib import Path
from typing import Any

from tiling import ConfigError

from .encoder import EncoderCard, EncoderConfig

_FACTS = ("input_px", "px_multiple", "mpp", "mean", "std", "pooling", "licence")
_DEFAULTS: dict[str, Any] = {  # said by `slidebag` where nothing else is: ImageNet's
    "input_px": 224,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "pooling": "as exported, ImageNet's mean and std",
    "licence": "not stated",
}


def exported_card(name: str, file: Path, *, dim: int) -> EncoderCard:
    """Return the card of an exported file, filled from `<file without suffix>.json` if that is there.

    Raises:
        ConfigError: the JSON cannot be read, or says what no card has.
    """
    beside = file.with_suffix(".json")
    told: dict[str, Any] = {}
    if beside.is_file():
        try:
            told = json.loads(beside.read_text(encoding="utf-8"))
            unknown = sorted(told.keys() - set(_FACTS))
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"{beside} is no JSON object", hint=f"write {', '.join(_FACTS)}") from error
        if unknown:
            raise ConfigError(f"{beside} tells {unknown[0]!r}", hint=f"choose from {', '.join(_FACTS)}")
        told = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
        told.setdefault("pooling", "as exported")
    return EncoderCard(name=name, dim=dim, source=str(file), **(_DEFAULTS | told))


def refuse_weights(card: EncoderCard, config: EncoderConfig) -> None:
    """Raise ConfigError if weights are given beside an exported file."""
    if config.weights is not None:
        raise ConfigError(f"encoder {card.name} has its weights in its file", hint="leave out --weights")
