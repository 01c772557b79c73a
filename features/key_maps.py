"""Tensor names of other people's checkpoints, translated into timm's."""

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed  # pyright: ignore[reportPrivateImportUsage]

State = dict[str, torch.Tensor]

# transformers' ViT, Dinov2 and Dinov2WithRegisters; the order matters
_TRANSFORMERS = (
    (r"^(vit|dinov2|dinov2_with_registers)\.", ""),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.(cls_token|mask_token)$", r"\1"),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.(intermediate\.dense|mlp\.weights_in)\.", ".mlp.fc1."),
    (r"\.(output\.dense|mlp\.weights_out)\.", ".mlp.fc2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
)
_TRANSFORMERS_CLIP = (
    (r"^vision_model\.embeddings\.class_embedding$", "cls_token"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^vision_model\.pre_layrnorm\.", "norm_pre."),  # sic
    (r"^vision_model\.post_layernorm\.", "norm."),
    (r"^vision_model\.encoder\.layers\.", "blocks."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
    (r"^visual_projection\.", "head."),
)
_CONCH = {"visual.trunk.": "", "visual.attn_pool_contrast.": "head.", "visual.ln_contrast.": "head.ln."}


def from_timm(state: State, trunk: Any) -> State:
    """Return what timm's own filter makes of a state: its names, and those of the models it came from."""
    convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    return state if convert is None else convert(state, trunk)


def from_transformers(state: State, trunk: Any) -> State:
    """Translate transformers' ViT and DINOv2; a state with other names goes to `from_timm`."""
    if not any(name.endswith("embeddings.cls_token") for name in state):
        return from_timm(state, trunk)
    named = _fused(_renamed(state, _TRANSFORMERS), ("query", "key", "value"))
    named = {name: value for name, value in named.items() if not name.startswith(("mask_token", "pooler."))}
    if "reg_token" in named:  # timm adds no position to class and register tokens
        named["cls_token"] = named["cls_token"] + named["pos_embed"][:, :1]
        named["pos_embed"] = named["pos_embed"][:, 1:]
    return _fitted(named, trunk, interpolation="bicubic")


def from_clip(state: State, trunk: Any) -> State:
    """Translate transformers' CLIP, the image tower alone; OpenAI's names go to `from_timm`."""
    if "vision_model.embeddings.class_embedding" not in state:
        return from_timm(state, trunk)
    told = {
        name: value
        for name, value in state.items()
        if name.startswith(("vision_model.", "visual_projection.")) and not name.endswith("position_ids")
    }
    named = _fused(_renamed(told, _TRANSFORMERS_CLIP), ("q", "k", "v"))
    named["cls_token"], named["pos_embed"] = named["cls_token"][None, None], named["pos_embed"][None]
    named["head.bias"] = torch.zeros(len(named["head.weight"]))  # timm's head has one, CLIP's has none
    return named


def from_conch(state: State, trunk: Any) -> State:
    """Translate CONCH: the image tower and the pooler of its contrastive half; else as `from_timm`."""
    if "visual.trunk.pos_embed" not in state:
        return from_timm(state, trunk)
    told = {
        new + name.removeprefix(old): value
        for name, value in state.items()
        for old, new in _CONCH.items()
        if name.startswith(old)
    }
    return _fitted(told, trunk, interpolation="bilinear")


def as_they_are(state: State, trunk: Any) -> State:
    """Return a state whose names and shapes are the trunk's own."""
    del trunk
    return state


NAMES: dict[str, Callable[[State, Any], State]] = {
    "exact": as_they_are,
    "timm": from_timm,
    "transformers": from_transformers,
    "clip": from_clip,
    "conch": from_conch,
}


def _renamed(state: State, rules: Iterable[tuple[str, str]]) -> State:
    renamed = {}
    for name, value in state.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        renamed[name] = value
    return renamed


def _fused(state: State, parts: tuple[str, str, str]) -> State:
    """Stack separate queries, keys and values into timm's `qkv`."""
    found = re.compile(rf"(.*\.attn\.){parts[0]}\.(weight|bias)")
    fused = dict(state)
    for name in state:
        if match := found.fullmatch(name):
            stacked = [fused.pop(f"{match[1]}{part}.{match[2]}") for part in parts]
            fused[f"{match[1]}qkv.{match[2]}"] = torch.cat(stacked)
    return fused


def _fitted(state: State, trunk: Any, *, interpolation: str) -> State:
    """Fit a position embedding of another size, as the authors' code does: without antialiasing."""
    wanted = trunk.pos_embed.shape[1]
    if state["pos_embed"].shape[1] != wanted:
        state["pos_embed"] = resample_abs_pos_embed(
            state["pos_embed"],
            new_size=list(trunk.patch_embed.grid_size),
            num_prefix_tokens=0 if trunk.no_embed_class else trunk.num_prefix_tokens,
            interpolation=interpolation,
            antialias=False,
        )
    return state
