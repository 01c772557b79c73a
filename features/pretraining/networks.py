"""The network that learns: a vision transformer from nothing, or from an encoder of the registry."""

from dataclasses import dataclass, replace
from typing import Any

import timm
import torch

from features.architecture import ELSEWHERE, Architecture
from features.encoder import EncoderCard, find_encoder
from features.encoder_folder import FolderEncoder
from features.network import build_network, create_trunk
from tiling import ConfigError

from .config import POOLED, PretrainConfig, shared

_SIZES = {"width": "embed_dim", "depth": "depth", "heads": "num_heads", "token_px": "patch_size"}
_KEPT = ("patch_embed.", "pos_embed", "cls_token", "reg_token")
_BY_TEACHER = "begin from another encoder, or learn from this one with --teacher"


@dataclass(frozen=True)
class Plan:
    """What is built: the card and architecture of the encoder, and weights to begin from, if any."""

    card: EncoderCard
    architecture: Architecture
    state: dict[str, torch.Tensor] | None = None

    def trunk(self, drop_path: float = 0.0) -> Any:
        """Create a trunk with the weights to begin from; else with random ones of the global generator.

        What it begins from keeps how pixels become tokens: moving that upsets all behind it (MoCo v3,
        arXiv 2104.02057).
        """
        options = {**self.architecture.options, "drop_path_rate": drop_path}
        trunk = create_trunk(replace(self.architecture, options=options), self.card)
        if self.state is not None:
            trunk.load_state_dict(self.state)
            for name, parameter in trunk.named_parameters():
                parameter.requires_grad_(not name.startswith(_KEPT))
        return trunk


def plan_network(config: PretrainConfig, name: str, side_um: float | None) -> Plan:
    """Return what `config` asks for, as an encoder of that name; `side_um` is how long a tile's side is.

    Raises:
        ConfigError: it is no vision transformer with a class token, or a size does not fit it.
        SlidebagError: the weights to begin from cannot be had.
    """
    plan = _begun(config) if config.init else _new(config)
    mpp = config.mpp if config.mpp is not None else side_um and side_um / config.input_px
    width, pooling = plan.card.token_dim or plan.card.dim, config.pooling or plan.card.pooling
    card = replace(
        plan.card, name=name, input_px=config.input_px, resizes=resizes(config), mpp=mpp,
        licence=config.licence or plan.card.licence,
        pooling=pooling, dim=2 * width if pooling == POOLED else width,
        source=f"slidebag pretrain, {f'from {shared(config.init)}' if config.init else 'from scratch'}",
        access="",
    )  # fmt: skip
    return replace(plan, card=card)


def resizes(config: PretrainConfig) -> bool:
    """Return whether the encoder is to take tiles of any size; raises as `plan_network` does."""
    if config.resize is not None:
        return config.resize
    return bool(config.init) and find_encoder(config.init).card.resizes


def _new(config: PretrainConfig) -> Plan:
    sizes = {own: getattr(config, name) for name, own in _SIZES.items() if getattr(config, name)}
    options = {"img_size": config.input_px, **sizes}
    if not timm.is_model(config.arch):
        near = ", ".join(timm.list_models("vit_*_patch16_224")[:6])
        raise ConfigError(f"timm has no model {config.arch!r}", hint=f"take such as {near}")
    architecture = Architecture(timm_name=config.arch, options=options)
    card = EncoderCard(
        name="", dim=1, input_px=config.input_px, px_multiple=1,  # of any: it is not known yet
        pooling="class token", token_dim=1, licence="not stated", source="",
    )  # fmt: skip
    try:
        with torch.device("meta"):
            outline = create_trunk(architecture, card)
        width, token_px = int(outline.num_features), int(outline.patch_embed.patch_size[0])
    except (TypeError, ValueError, RuntimeError, AssertionError, AttributeError) as error:
        raise ConfigError(
            f"{config.arch} cannot be built with {options} ({error})",
            hint="change sizes, or take a transformer with a class token and positions that fit any image, "
            "as vit_small_patch16_224",
        ) from error
    _check(outline, config.arch)
    _check_sides(config, token_px)
    card = replace(card, dim=width, px_multiple=token_px, token_dim=width)
    return Plan(card, replace(architecture, timm_name=config.arch.partition(".")[0]))


def _begun(config: PretrainConfig) -> Plan:
    told = config.initial
    assert told is not None
    entry = find_encoder(told.encoder)
    load = entry.load
    architecture = load.architecture if isinstance(load, FolderEncoder) else load
    if not isinstance(architecture, Architecture) or architecture.conv_stem or not entry.card.px_multiple:
        raise ConfigError(
            f"encoder {config.init} is no vision transformer that slidebag builds", hint=_BY_TEACHER
        )
    if architecture.timm_name.startswith(ELSEWHERE):
        raise ConfigError(f"encoder {config.init} tells its network elsewhere", hint=_BY_TEACHER)
    with torch.device("meta"):
        outline = create_trunk(architecture, entry.card)
    card = replace(entry.card, pooling=_fitting(outline, entry.card, config))  # before weights are fetched
    is_folder = isinstance(load, FolderEncoder)
    network = load.build(entry.card, told) if is_folder else build_network(architecture, entry.card, told)
    named = replace(architecture, timm_name=architecture.timm_name.partition(".")[0])
    return _shaped(Plan(card, named), network.trunk, config)


def _fitting(outline: Any, card: EncoderCard, config: PretrainConfig) -> str:
    """Return the pooling of an encoder to begin from; ConfigError if it cannot become what is asked for."""
    _check(outline, config.init)
    if config.token_px and not hasattr(outline, "set_input_size"):
        raise ConfigError(f"tokens of {config.init} have a fixed size", hint="leave out --token-px")
    _check_sides(config, config.token_px or card.px_multiple or 0)
    n_blocks = len(outline.blocks)
    if config.depth > n_blocks:
        raise ConfigError(
            f"depth is {config.depth}, encoder {config.init} has {n_blocks} blocks",
            hint=f"give --depth 1 to {n_blocks}",
        )
    is_timms = card.pooling == "as in timm" and outline.global_pool == "token"
    pooling = "class token" if is_timms else card.pooling
    if not pooling.startswith("class token"):
        raise ConfigError(f"encoder {config.init} takes {pooling}, not its class token", hint=_BY_TEACHER)
    return pooling


def _shaped(plan: Plan, trunk: Any, config: PretrainConfig) -> Plan:
    """Return the plan of the first blocks of a trunk, and of other tokens, where they are asked for."""
    card, options = plan.card, dict(plan.architecture.options)
    if config.depth:
        trunk.blocks = trunk.blocks[: config.depth]
        options["depth"] = config.depth
    if config.token_px:
        # kernels are resampled as in FlexiViT (arXiv 2212.08013)
        trunk.set_input_size(img_size=config.input_px, patch_size=config.token_px)
        options |= {"img_size": config.input_px, "patch_size": config.token_px}
        card = replace(card, px_multiple=config.token_px)
    return Plan(card, replace(plan.architecture, options=options), trunk.state_dict())


def _check_sides(config: PretrainConfig, token_px: int) -> None:
    has_small = config.epochs and config.local_crops and not config.teacher
    for option in ("input_px", *(("local_px",) if has_small else ())):
        if getattr(config, option) % token_px:
            raise ConfigError(
                f"{option} is {getattr(config, option)}",
                hint=f"give a multiple of {token_px}, the side of a token",
            )


def _check(trunk: Any, name: str) -> None:
    has_class_token = getattr(trunk, "cls_token", None) is not None
    if not has_class_token or not hasattr(trunk, "blocks"):
        raise ConfigError(f"{name} has no class token", hint="take a vision transformer that has one")
