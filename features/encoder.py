"""An encoder turns patches into vectors; its card says everything one must know to use it."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tiling import ConfigError, Registry, fingerprint

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
STAINS = ("none", "macenko", "reinhard")
ENGINES = ("auto", "torch", "openvino")
_MPP_TOLERANCE = 0.1  # of the resolution that an encoder was trained at
DEFAULT_ENCODER = "embedded"  # where none is named
CARD = "card.json"  # in an encoder's folder


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
    resizes: bool = False  # patches of any size fit: it makes them `input_px` large itself
    pooling: str = ""  # what its authors take for the patch's vector, such as "class token"
    token_dim: int | None = None  # of the vector of each token; None: it has no tokens on a raster
    licence: str
    source: str
    access: str = ""  # where to ask for the weights of a gated model; empty: they are free to fetch

    @property
    def is_gated(self) -> bool:
        """Whether its authors must be asked for the weights."""
        return bool(self.access)

    def takes(self, tile_px: int) -> bool:
        """Return whether patches of this size are what the encoder wants."""
        if self.resizes:
            return True
        return tile_px % self.px_multiple == 0 if self.px_multiple else tile_px == self.input_px

    def is_trained_at(self, tile_mpp: float) -> bool:
        """Return whether patches at this resolution are what the encoder was trained on."""
        return self.mpp is None or abs(tile_mpp / self.mpp - 1) <= _MPP_TOLERANCE

    def check_patch(self, tile_px: int, tile_mpp: float) -> None:
        """Raise ConfigError if patches of this size or resolution are not what the encoder wants."""
        if not self.takes(tile_px):
            wanted = f"a multiple of {self.px_multiple}" if self.px_multiple else f"{self.input_px}"
            raise ConfigError(
                f"patches are {tile_px} px, encoder {self.name} wants {wanted} px",
                hint=f"tile with --tile-px {self.input_px}",
            )
        shrinks = tile_px / self.input_px if self.resizes else 1.0
        if not self.is_trained_at(tile_mpp * shrinks):
            assert self.mpp is not None
            raise ConfigError(
                f"patches are at {tile_mpp:g} µm/px, encoder {self.name} was trained at {self.mpp:g}"
                + (f" and sees {tile_mpp * shrinks:g}" if self.resizes else ""),
                hint=f"tile with --tile-mpp {self.mpp / shrinks:g}",
            )


def is_folder_name(name: str) -> bool:
    """Return whether an encoder's name is a path: it begins as one, or, as `a/mine`, leads to a card."""
    begins = name.startswith((".", "~")) or Path(name).is_absolute()
    return begins or ("/" in name and (Path(name) / CARD).is_file())


def whole_path(name: str) -> str:
    """Return the whole path of an encoder's folder, links as they are called."""
    return os.path.abspath(Path(name).expanduser())  # noqa: PTH100  resolve() would follow links


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which encoder, with which weights, how exact."""

    encoder: str = field(
        default=DEFAULT_ENCODER,
        metadata={
            "help": "as in `slidebag encoders`, or timm:<name>, torchscript:<path>, onnx:<path>, ./<folder>"
        },
    )
    weights: str | None = field(
        default=None, metadata={"help": "local weight file, or folder with one, instead of the hub's"}
    )
    precision: str = field(
        default="auto",
        metadata={"help": f"arithmetic: {', '.join(PRECISIONS)}; auto is the fastest faithful one there is"},
    )
    engine: str = field(default="auto", metadata={"help": f"what computes a network: {', '.join(ENGINES)}"})
    stain: str = field(
        default="none",
        metadata={"help": f"bring slides to a fixed colour target: {', '.join(STAINS)}"},
    )
    token_side: int = field(
        default=0, metadata={"help": "keep so many by so many token vectors of each tile too; 0 is none"}
    )

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision is {self.precision!r}", hint=f"choose from {', '.join(PRECISIONS)}")
        if self.engine not in ENGINES:
            raise ConfigError(f"engine is {self.engine!r}", hint=f"choose from {', '.join(ENGINES)}")
        if self.stain not in STAINS:
            raise ConfigError(f"stain is {self.stain!r}", hint=f"choose from {', '.join(STAINS)}")
        if self.token_side < 0:
            raise ConfigError(f"token_side is {self.token_side}", hint="give 1 or more, or 0 for none")
        if is_folder_name(self.encoder):  # it is to be found from everywhere
            object.__setattr__(self, "encoder", whole_path(self.encoder))
        if self.weights is not None and not Path(self.weights).exists():
            raise ConfigError(f"weights {self.weights}: no such file or folder", hint="check --weights")


class Encoder(ABC):
    """A frozen map from patches to vectors."""

    card: EncoderCard
    fingerprint: str  # changes with the weights and whatever else changes a vector
    config: EncoderConfig = EncoderConfig()  # what it was loaded by
    weights_digest: str = ""  # SHA-256 of the weights, in hex; empty: it has none
    precision: str = "float32"  # what is computed in, whatever was asked for
    engine: str = "numpy"  # what computes
    batch: int = 64  # patches at a time that suit it

    def fingerprint_in(self, precision: str) -> str:
        """Return the fingerprint of this encoder where it computes in another precision, if it has one."""
        del precision
        return self.fingerprint

    @abstractmethod
    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return float32 (n, dim) for uint8 patches (n, H, W, 3); each row depends on its patch alone."""

    def encode_tokens(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `encode` does and the patches' tokens, float32 (n, side, side, token_dim).

        Raises:
            ConfigError: the encoder has none, or was loaded with `token_side` 0.
        """
        raise ConfigError(
            f"encoder {self.card.name} gives no tokens", hint="leave out --token-side, or use a transformer"
        )


@dataclass(frozen=True)
class EncoderEntry:
    """One line of the registry: the card, and how to load the encoder onto a device."""

    card: EncoderCard
    load: Callable[[EncoderCard, EncoderConfig, str], Encoder]


ENCODERS: Registry[EncoderEntry] = Registry("encoder")
PREFIXES: dict[str, Callable[[str], EncoderEntry]] = {}  # "timm:" and its like: a family by name


def find_encoder(name: str) -> EncoderEntry:
    """Return the registry's entry for a name, that of a folder, or what a prefix as `timm:` makes of it.

    Raises:
        ConfigError: no such encoder.
        FormatError: it is a folder whose card is damaged.
    """
    if is_folder_name(name):
        from .encoder_folder import folder_entry  # which is made of what stands here

        return folder_entry(Path(name))
    prefix, _, rest = name.partition(":")
    if rest and prefix in PREFIXES:
        entry = PREFIXES[prefix](rest)
        return replace(entry, card=replace(entry.card, name=name))
    if name not in ENCODERS and (Path(name) / CARD).is_file():
        raise ConfigError(f"unknown encoder {name!r}", hint=f"give ./{name} for the folder of that name")
    return ENCODERS[name]


def load_encoder(config: EncoderConfig, *, device: str = "cpu") -> Encoder:
    """Load an encoder onto a torch device.

    Raises:
        ConfigError: there is no such encoder, or the weights do not fit it.
        SlidebagError: the weights cannot be had.
    """
    entry = find_encoder(config.encoder)
    encoder = entry.load(entry.card, config, device)
    encoder.config = config
    encoder.fingerprint = fingerprint_with_stain(encoder.fingerprint, config.stain)
    return encoder


def fingerprint_with_stain(told: str, stain: str) -> str:
    """Return an encoder's fingerprint for patches brought to the colours of `stain`.

    Vectors of other colours are other vectors, and not to be mixed.
    """
    return told if stain == "none" else fingerprint(told, stain)
