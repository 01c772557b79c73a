"""An encoder as a folder: `card.json`, which tells all of it, and `weights.safetensors` (formats.md)."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiling import ConfigError, FormatError, check_format, fingerprint, format_attributes, replacing

from .architecture import Architecture
from .encoder import CARD, Encoder, EncoderCard, EncoderConfig, EncoderEntry, whole_path
from .tensor_file import write_tensors

if TYPE_CHECKING:
    import torch

WEIGHTS = "weights.safetensors"
_Fact = tuple[str, Callable[[Any], bool]]  # what is wanted, in words, and whether a value is that


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are_three(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _or_null(fact: _Fact) -> _Fact:
    return f"{fact[0]}, or null", lambda value: value is None or fact[1](value)


_COUNT: _Fact = ("a whole number above 0", lambda value: type(value) is int and value > 0)
_LENGTH: _Fact = ("a number above 0", lambda value: _is_number(value) and value > 0)
_TEXT: _Fact = ("text", lambda value: isinstance(value, str))
_TRUTH: _Fact = ("true or false", lambda value: isinstance(value, bool))
# what a card must tell; the rest is for people
_FACTS: dict[str, _Fact] = {
    "dim": _COUNT,
    "input_px": _COUNT,
    "px_multiple": _or_null(_COUNT),
    "token_dim": _or_null(_COUNT),
    "mpp": _or_null(_LENGTH),
    "mean": ("three numbers", _are_three),
    "std": ("three numbers above 0", lambda value: _are_three(value) and min(value) > 0),
    "pooling": _TEXT,
    "licence": _TEXT,
    "source": _TEXT,
    "resizes": _TRUTH,
}
# of a network's shape; timm takes others too, that name files to be unpickled or places to fetch from
_OPTIONS = {
    "class_token", "depth", "embed_dim", "global_pool", "img_size", "init_values", "mlp_ratio",
    "no_embed_class", "num_classes", "num_heads", "patch_size", "qkv_bias", "reg_tokens",
}  # fmt: skip
_OF_NETWORK: dict[str, _Fact] = {
    "timm_name": (
        "the name of a model of timm",  # and no place as "hf-hub:..."
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w.]+", value)),
    ),
    "options": (
        f"no others than {', '.join(sorted(_OPTIONS))}",
        lambda value: isinstance(value, dict) and value.keys() <= _OPTIONS,
    ),
    "swiglu": _TRUTH,
    "norm_eps": _or_null(_LENGTH),
}


@dataclass(frozen=True, kw_only=True)
class FolderEncoder:
    """Loads the encoder of a folder; called, it is the `load` of an `EncoderEntry`."""

    folder: Path
    architecture: Architecture
    weights_sha256: str
    way_out: str = "take both files of one and the same training"  # where they do not fit

    def __call__(self, card: EncoderCard, config: EncoderConfig, device: str) -> Encoder:
        """Build the network, load its weights, and put it onto a device.

        Raises:
            ConfigError: the card does not fit the weights, or other weights are asked for.
        """
        from .neural_encoder import NeuralEncoder  # torch waits until it is needed

        network = self.build(card, config)
        known_as = fingerprint(self.architecture)  # not its place or name: a folder may be moved
        return NeuralEncoder(card, network, config, device=device, known_as=known_as)

    def build(self, card: EncoderCard, config: EncoderConfig) -> Any:
        """Return the network (`features.network.Network`) with its weights; raises as a call does."""
        from .network import build_network, check_card
        from .pooling import POOLINGS

        if config.weights is not None:
            raise ConfigError(
                f"encoder {card.name} has its weights in its folder", hint="leave out --weights"
            )
        if card.pooling not in POOLINGS:
            raise self._misfit(f"pooling is {card.pooling!r}, wanted {', '.join(POOLINGS)}")
        weights = self.folder / WEIGHTS
        found = file_sha256(weights)
        if found != self.weights_sha256:
            raise self._misfit(
                f"their SHA-256 is {found[:12]}..., the card says {self.weights_sha256[:12]}..."
            )
        try:
            network = build_network(self.architecture, card, replace(config, weights=str(weights)))
            check_card(self.architecture, card)
            return network
        except ConfigError as error:
            if config.token_side and "tokens" in error.message:
                raise
            raise self._misfit(error.message) from error
        # timm and torch refuse what they cannot build in their own ways
        except (TypeError, ValueError, LookupError, RuntimeError, AssertionError, AttributeError) as error:
            raise self._misfit(f"{type(error).__name__}: {error}") from error

    def _misfit(self, why: str) -> ConfigError:
        return ConfigError(
            f"encoder {self.folder}: {CARD} does not fit {WEIGHTS} ({why})",
            hint=self.way_out,
        )


def folder_entry(folder: Path, name: str = "") -> EncoderEntry:
    """Return the registry entry of an encoder's folder; its name is the folder's path if none is given.

    Raises:
        ConfigError: there is no such folder.
        FormatError: its card is damaged, of a newer version, or leaves out what must be known.
    """
    told: dict[str, Any] = {"resizes": False} | read_card(folder)  # cards of before do not tell
    try:
        network: dict[str, Any] = {"swiglu": False, "norm_eps": None, **told["architecture"]}
        _check(told, _FACTS | {"weights_sha256": _TEXT})
        _check(network, _OF_NETWORK)
        if told["input_px"] % (told["px_multiple"] or 1):
            raise ValueError(f"input_px is {told['input_px']}, wanted a multiple of {told['px_multiple']}")
        facts: dict[str, Any] = {key: told[key] for key in _FACTS}
        facts |= {key: tuple(told[key]) for key in ("mean", "std")}
        card = EncoderCard(name=name or whole_path(str(folder)), **facts)
        architecture = Architecture(hub="", names="exact", **network)
        load = FolderEncoder(folder=folder, architecture=architecture, weights_sha256=told["weights_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{folder / CARD}: is no card of an encoder ({type(error).__name__}: {error})",
            hint="write it again with `slidebag pretrain`",
        ) from error
    return EncoderEntry(card, load)


def _check(told: Mapping[str, Any], facts: Mapping[str, _Fact]) -> None:
    for key, (wanted, fits) in facts.items():
        if not fits(told[key]):
            raise ValueError(f"{key} is {told[key]!r}, wanted {wanted}")


def read_card(folder: Path) -> dict[str, Any]:
    """Return all that the card of an encoder's folder tells; raises as `folder_entry` does."""
    path = folder / CARD
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"encoder {folder}: no such folder with {CARD} and {WEIGHTS}",
            hint="give the folder that `slidebag pretrain` has written, or bring it back to where it was",
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        check_format(told, "encoder", str(path))
    except FormatError:
        raise
    except (ValueError, AttributeError, TypeError) as error:
        raise FormatError(
            f"{path}: is no card of an encoder ({error})", hint="bring back the file"
        ) from error
    return told


def save_encoder_folder(
    folder: Path,
    trunk: "torch.nn.Module",
    card: EncoderCard,
    architecture: Architecture,
    *,
    dtype: str = "float16",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a trunk, as `create_trunk` makes it of `architecture`, as an encoder's folder.

    `dtype` is of the weights in the file; `about` goes into the card for people: data, recipe, figures,
    limits. The card is written last: that it is there means that the folder is whole.

    Raises:
        WriteError: there is no space, or no permission.
    """
    import torch

    state = {
        name: value.detach().cpu().to(getattr(torch, dtype)).contiguous()
        for name, value in trunk.state_dict().items()
    }
    write_tensors(folder / WEIGHTS, state)
    facts = {key: getattr(card, key) for key in _FACTS}
    network = {"timm_name": architecture.timm_name, "options": dict(architecture.options)}
    network |= {"swiglu": architecture.swiglu, "norm_eps": architecture.norm_eps}
    told = format_attributes("encoder") | {"name": card.name, "architecture": network}
    told |= facts | {"weights_sha256": file_sha256(folder / WEIGHTS), "weights_dtype": dtype, **(about or {})}
    write_card(folder, told)


def write_card(folder: Path, told: Mapping[str, Any]) -> None:
    """Write the card of an encoder's folder, whole or not at all; raises as `save_encoder_folder` does."""
    with replacing(folder / CARD) as temporary:
        temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
