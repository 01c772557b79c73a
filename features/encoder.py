"""An encoder turns patches into vectors; its card says everything one must know to use it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tiling import ConfigError, Registry

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class EncoderCard:
    """The facts of one encoder: what it yields, what it wants to see, whose it is."""

    name: str
    dim: int
    input_px: int
    mpp: float | None = None  # the resolution it was trained at; None: no particular one
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    px_multiple: int | None = None  # patches of any multiple fit; None: of `input_px` only
    licence: str
    source: str

    def check_patch(self, tile_px: int, tile_mpp: float) -> None:
        """Raise ConfigError if patches of this size or resolution are not what the encoder wants."""
        fits = tile_px % self.px_multiple == 0 if self.px_multiple else tile_px == self.input_px
        if not fits:
            wanted = f"a multiple of {self.px_multiple}" if self.px_multiple else f"{self.input_px}"
            raise ConfigError(
                f"patches are {tile_px} px, encoder {self.name} wants {wanted} px",
                hint=f"tile with --tile-px {self.input_px}",
            )
        if self.mpp is not None and abs(tile_mpp / self.mpp - 1) > 0.1:
            raise ConfigError(
                f"patches are at {tile_mpp:g} µm/px, encoder {self.name} was trained at {self.mpp:g}",
                hint=f"tile with --tile-mpp {self.mpp:g}",
            )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which encoder, with which weights, how exact."""

    encoder: str = field(
        default="stain-stats", metadata={"help": "encoder name (see `slidebag encoders`) or timm:<name>"}
    )
    weights: str | None = field(
        default=None, metadata={"help": "local .safetensors or .pth file instead of the hub's weights"}
    )
    precision: str = field(
        default="float32", metadata={"help": "arithmetic of the encoder: float32 or bfloat16"}
    )

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision is {self.precision!r}", hint=f"choose from {', '.join(PRECISIONS)}")
        if self.weights is not None and not Path(self.weights).is_file():
            raise ConfigError(f"weights {self.weights}: no such file", hint="check --weights")


class Encoder(ABC):
    """A frozen map from patches to vectors."""

    card: EncoderCard
    fingerprint: str  # changes with the weights and whatever else changes a vector

    @abstractmethod
    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return float32 (n, dim) for uint8 patches (n, H, W, 3); each row depends on its patch alone."""


@dataclass(frozen=True)
class EncoderEntry:
    """One line of the registry: the card, and how to load the encoder onto a device."""

    card: EncoderCard
    load: Callable[[EncoderCard, EncoderConfig, str], Encoder]


ENCODERS: Registry[EncoderEntry] = Registry("encoder")
PREFIXES: dict[str, Callable[[str], EncoderEntry]] = {}  # "timm:" and its like: a family by name


def find_encoder(name: str) -> EncoderEntry:
    """Return the registry's entry for a name, or the one that a prefix such as `timm:` makes of it.

    Raises:
        ConfigError: no such encoder.
    """
    prefix, _, rest = name.partition(":")
    if rest and prefix in PREFIXES:
        entry = PREFIXES[prefix](rest)
        return replace(entry, card=replace(entry.card, name=name))
    return ENCODERS[name]


def load_encoder(config: EncoderConfig, *, device: str = "cpu") -> Encoder:
    """Load an encoder onto a torch device.

    Raises:
        ConfigError: there is no such encoder, or the weights do not fit it.
        SlidebagError: the weights cannot be had.
    """
    entry = find_encoder(config.encoder)
    return entry.load(entry.card, config, device)
