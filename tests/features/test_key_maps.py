"""Other people's checkpoints: written here by hand, and computed with by hand, from the names they have."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear, silu

from features import ENCODERS, EncoderConfig
from features.key_maps import from_clip, from_conch, from_timm, from_transformers
from features.network import build_network, create_trunk
from tiling import ConfigError

DIM, HEADS, DEPTH = 48, 4, 2


def small(name, **more):
    """Card and architecture of a named encoder, thin and shallow."""
    entry = ENCODERS[name]
    options = {**entry.load.options, "embed_dim": DIM, "num_heads": HEADS, "depth": DEPTH, **more}
    return replace(entry.card, token_dim=DIM), replace(entry.load, options=options)


def random_like(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def layer(prefix, n_out, n_in):
    return {f"{prefix}.weight": (n_out, n_in), f"{prefix}.bias": (n_out,)}


def norm(prefix):
    return {f"{prefix}.weight": (DIM,), f"{prefix}.bias": (DIM,)}


def transformers_dinov2(*, token_px, side, registers=0, gated=0, n_hidden=4 * DIM):
    """A checkpoint of transformers' Dinov2Model, or with registers."""
    shapes = {
        "embeddings.cls_token": (1, 1, DIM),
        "embeddings.mask_token": (1, DIM),
        "embeddings.position_embeddings": (1, 1 + side * side, DIM),
        "embeddings.patch_embeddings.projection.weight": (DIM, 3, token_px, token_px),
        "embeddings.patch_embeddings.projection.bias": (DIM,),
        **norm("layernorm"),
    }
    if registers:
        shapes["embeddings.register_tokens"] = (1, registers, DIM)
    for block in range(DEPTH):
        here = f"encoder.layer.{block}"
        for part in ("query", "key", "value"):
            shapes |= layer(f"{here}.attention.attention.{part}", DIM, DIM)
        shapes |= layer(f"{here}.attention.output.dense", DIM, DIM)
        shapes |= norm(f"{here}.norm1") | norm(f"{here}.norm2")
        shapes |= {f"{here}.layer_scale{k}.lambda1": (DIM,) for k in (1, 2)}
        if gated:
            shapes |= layer(f"{here}.mlp.weights_in", 2 * gated, DIM)
            shapes |= layer(f"{here}.mlp.weights_out", DIM, gated)
        else:
            shapes |= layer(f"{here}.mlp.fc1", n_hidden, DIM) | layer(f"{here}.mlp.fc2", DIM, n_hidden)
    return random_like(shapes)


def transformers_vit(*, token_px, side):
    """A checkpoint of transformers' ViTModel."""
    shapes = {
        "embeddings.cls_token": (1, 1, DIM),
        "embeddings.position_embeddings": (1, 1 + side * side, DIM),
        "embeddings.patch_embeddings.projection.weight": (DIM, 3, token_px, token_px),
        "embeddings.patch_embeddings.projection.bias": (DIM,),
        **norm("layernorm"),
        **layer("pooler.dense", DIM, DIM),
    }
    for block in range(DEPTH):
        here = f"encoder.layer.{block}"
        for part in ("query", "key", "value"):
            shapes |= layer(f"{here}.attention.attention.{part}", DIM, DIM)
        shapes |= layer(f"{here}.attention.output.dense", DIM, DIM)
        shapes |= norm(f"{here}.layernorm_before") | norm(f"{here}.layernorm_after")
        shapes |= layer(f"{here}.intermediate.dense", 4 * DIM, DIM)
        shapes |= layer(f"{here}.output.dense", DIM, 4 * DIM)
    return random_like(shapes)


def transformers_clip(*, token_px, side):
    """A checkpoint of transformers' CLIPModel; of the text tower one tensor stands for all."""
    shapes = {
        "logit_scale": (),
        "text_projection.weight": (512, DIM),
        "text_model.encoder.layers.0.layer_norm1.weight": (DIM,),
        "vision_model.embeddings.class_embedding": (DIM,),
        "vision_model.embeddings.position_embedding.weight": (1 + side * side, DIM),
        "vision_model.embeddings.patch_embedding.weight": (DIM, 3, token_px, token_px),
        **norm("vision_model.pre_layrnorm"),
        **norm("vision_model.post_layernorm"),
        "visual_projection.weight": (512, DIM),
    }
    for block in range(DEPTH):
        here = f"vision_model.encoder.layers.{block}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= layer(f"{here}.self_attn.{part}", DIM, DIM)
        shapes |= norm(f"{here}.layer_norm1") | norm(f"{here}.layer_norm2")
        shapes |= layer(f"{here}.mlp.fc1", 4 * DIM, DIM) | layer(f"{here}.mlp.fc2", DIM, 4 * DIM)
    ids = torch.arange(1 + side * side)[None]
    return random_like(shapes) | {"vision_model.embeddings.position_ids": ids}


def attend(q, k, v):
    """Multi-head attention over (n, tokens, DIM), head by head."""
    width = DIM // HEADS
    parts = []
    for head in range(HEADS):
        here = slice(width * head, width * head + width)
        weights = torch.softmax(q[..., here] @ k[..., here].transpose(1, 2) / width**0.5, dim=-1)
        parts.append(weights @ v[..., here])
    return torch.cat(parts, dim=-1)


def run_transformers(s, images, *, eps=1e-6):
    """The forward pass of transformers' DINOv2 and ViT, all tokens after the last norm."""

    def lin(x, name):
        return linear(x, s[f"{name}.weight"], s[f"{name}.bias"])

    def normed(x, name):
        return layer_norm(x, (DIM,), s[f"{name}.weight"], s[f"{name}.bias"], eps)

    patch = "embeddings.patch_embeddings.projection"
    cut = s[f"{patch}.weight"].shape[-1]
    x = conv2d(images, s[f"{patch}.weight"], s[f"{patch}.bias"], stride=cut).flatten(2).transpose(1, 2)
    x = torch.cat([s["embeddings.cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + s["embeddings.position_embeddings"]
    if "embeddings.register_tokens" in s:
        registers = s["embeddings.register_tokens"].expand(len(x), -1, -1)
        x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
    for block in range(DEPTH):
        here = f"encoder.layer.{block}"
        is_vit = f"{here}.layernorm_before.weight" in s
        h = normed(x, f"{here}.layernorm_before" if is_vit else f"{here}.norm1")
        h = attend(*(lin(h, f"{here}.attention.attention.{p}") for p in ("query", "key", "value")))
        h = lin(h, f"{here}.attention.output.dense")
        x = x + (h if is_vit else h * s[f"{here}.layer_scale1.lambda1"])
        h = normed(x, f"{here}.layernorm_after" if is_vit else f"{here}.norm2")
        if is_vit:
            x = x + lin(gelu(lin(h, f"{here}.intermediate.dense")), f"{here}.output.dense")
            continue
        if f"{here}.mlp.weights_in.weight" in s:
            gate, value = lin(h, f"{here}.mlp.weights_in").chunk(2, dim=-1)
            h = lin(silu(gate) * value, f"{here}.mlp.weights_out")
        else:
            h = lin(gelu(lin(h, f"{here}.mlp.fc1")), f"{here}.mlp.fc2")
        x = x + h * s[f"{here}.layer_scale2.lambda1"]
    return normed(x, "layernorm")


def run_clip(s, images):
    """The forward pass of transformers' CLIP image tower, projected."""

    def lin(x, name):
        return linear(x, s[f"{name}.weight"], s[f"{name}.bias"])

    def normed(x, name):
        return layer_norm(x, (DIM,), s[f"{name}.weight"], s[f"{name}.bias"], 1e-5)

    weight = s["vision_model.embeddings.patch_embedding.weight"]
    x = conv2d(images, weight, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
    first = s["vision_model.embeddings.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1) + s["vision_model.embeddings.position_embedding.weight"]
    x = normed(x, "vision_model.pre_layrnorm")
    for block in range(DEPTH):
        here = f"vision_model.encoder.layers.{block}"
        h = normed(x, f"{here}.layer_norm1")
        h = attend(*(lin(h, f"{here}.self_attn.{p}_proj") for p in "qkv"))
        x = x + lin(h, f"{here}.self_attn.out_proj")
        h = lin(normed(x, f"{here}.layer_norm2"), f"{here}.mlp.fc1")
        x = x + lin(h * torch.sigmoid(1.702 * h), f"{here}.mlp.fc2")
    return linear(normed(x[:, 0], "vision_model.post_layernorm"), s["visual_projection.weight"])


def loaded(name, state, tmp_path, **more):
    card, architecture = small(name, **more)
    torch.save(state, tmp_path / "a.bin")
    config = EncoderConfig(encoder=name, weights=str(tmp_path / "a.bin"))
    return card, build_network(architecture, card, config).eval()


def images(px, n=2):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(1))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "dinov2."])
@torch.inference_mode()
def test_phikon_v2_is_transformers_dinov2(tmp_path, prefix):
    state = transformers_dinov2(token_px=16, side=14)
    _, network = loaded("phikon-v2", {prefix + k: v for k, v in state.items()}, tmp_path)
    close(network(images(224)), run_transformers(state, images(224))[:, 0])


@pytest.mark.parametrize("name", ["hibou-b", "hibou-l"])
@torch.inference_mode()
def test_hibou_is_transformers_dinov2_with_registers_and_gates(tmp_path, name):
    entry = ENCODERS[name]
    n_gated = round(entry.load.options["mlp_ratio"] * DIM) // 2
    state = transformers_dinov2(token_px=14, side=16, registers=4, gated=n_gated)
    ratio = 2 * n_gated / DIM
    _, network = loaded(name, state, tmp_path, mlp_ratio=ratio)
    close(network(images(224)), run_transformers(state, images(224))[:, 0])


@torch.inference_mode()
def test_midnight_is_transformers_dinov2_with_gates(tmp_path):
    n_gated = 2 * 4 * DIM // 3
    state = transformers_dinov2(token_px=14, side=16, gated=n_gated)
    _, network = loaded("midnight-12k", state, tmp_path, mlp_ratio=2 * n_gated / DIM)
    tokens = run_transformers(state, images(224))
    close(network(images(224)), torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1))


@torch.inference_mode()
def test_positions_of_another_raster_are_fitted_as_transformers_does(tmp_path):
    n_gated = 2 * 4 * DIM // 3
    state = transformers_dinov2(token_px=14, side=37, gated=n_gated)
    _, network = loaded("midnight-12k", state, tmp_path, mlp_ratio=2 * n_gated / DIM)
    positions = state["embeddings.position_embeddings"]
    raster = positions[:, 1:].reshape(1, 37, 37, DIM).permute(0, 3, 1, 2)
    raster = torch.nn.functional.interpolate(raster, size=(16, 16), mode="bicubic", align_corners=False)
    fitted = torch.cat([positions[:, :1], raster.permute(0, 2, 3, 1).reshape(1, 256, DIM)], dim=1)
    tokens = run_transformers(state | {"embeddings.position_embeddings": fitted}, images(224))
    close(network(images(224)), torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1))


@pytest.mark.parametrize("prefix", ["", "vit."])
@torch.inference_mode()
def test_phikon_is_transformers_vit(tmp_path, prefix):
    state = transformers_vit(token_px=16, side=14)
    _, network = loaded("phikon", {prefix + k: v for k, v in state.items()}, tmp_path)
    close(network(images(224)), run_transformers(state, images(224), eps=1e-12)[:, 0])


@torch.inference_mode()
def test_plip_is_transformers_clip(tmp_path):
    state = transformers_clip(token_px=32, side=7)
    card, network = loaded("plip", state, tmp_path)
    close(network(images(224)), run_clip(state, images(224)))
    assert network(images(224)).shape == (2, card.dim)


@torch.inference_mode()
def test_quiltnet_is_openais_clip(tmp_path):
    there = transformers_clip(token_px=32, side=7)
    one, two = "vision_model.embeddings", "vision_model.encoder.layers"
    state = {
        "logit_scale": torch.ones(()),
        "transformer.resblocks.0.ln_1.weight": torch.ones(8),  # of the text tower
        "visual.class_embedding": there[f"{one}.class_embedding"],
        "visual.positional_embedding": there[f"{one}.position_embedding.weight"],
        "visual.conv1.weight": there[f"{one}.patch_embedding.weight"],
        "visual.proj": there["visual_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        state[f"visual.ln_pre.{kind}"] = there[f"vision_model.pre_layrnorm.{kind}"]
        state[f"visual.ln_post.{kind}"] = there[f"vision_model.post_layernorm.{kind}"]
        for k in range(DEPTH):
            to, of = f"visual.transformer.resblocks.{k}", f"{two}.{k}"
            parts = [there[f"{of}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            state[f"{to}.attn.in_proj_{kind}"] = torch.cat(parts)
            state[f"{to}.attn.out_proj.{kind}"] = there[f"{of}.self_attn.out_proj.{kind}"]
            state[f"{to}.mlp.c_fc.{kind}"] = there[f"{of}.mlp.fc1.{kind}"]
            state[f"{to}.mlp.c_proj.{kind}"] = there[f"{of}.mlp.fc2.{kind}"]
            for j in (1, 2):
                state[f"{to}.ln_{j}.{kind}"] = there[f"{of}.layer_norm{j}.{kind}"]
    _, network = loaded("quiltnet", state, tmp_path)
    close(network(images(224)), run_clip(there, images(224)))


def random_trunk(name, **more):
    card, architecture = small(name, **more)
    trunk = create_trunk(architecture, card).eval()
    drawn = random_like({k: v.shape for k, v in trunk.state_dict().items()})
    trunk.load_state_dict(drawn)
    return trunk, drawn


@torch.inference_mode()
def test_conch_is_its_trunk_and_its_contrastive_pooler(tmp_path):
    trunk, drawn = random_trunk("conch")
    state = {}
    for key, value in drawn.items():
        if key.startswith("head.ln."):
            state[key.replace("head.ln.", "visual.ln_contrast.")] = value
        elif key.startswith("head."):
            state[key.replace("head.", "visual.attn_pool_contrast.")] = value
        else:
            state[f"visual.trunk.{key}"] = value
    state |= {  # and what is not the encoder's
        "visual.proj_contrast": torch.ones(512, 512),
        "visual.attn_pool_caption.query": torch.ones(256, 768),
        "visual.ln_caption.weight": torch.ones(768),
        "text.cls_emb": torch.ones(768),
        "text_decoder.ln_final.weight": torch.ones(768),
        "logit_scale": torch.ones(()),
    }
    _, network = loaded("conch", state, tmp_path)
    close(network(images(448, 1)), trunk.head(trunk.forward_features(images(448, 1))))


@torch.inference_mode()
def test_dinobloom_reads_its_authors_own_files(tmp_path):
    """A DINOv2 teacher: backbone and heads, the backbone with DINOv2's own names."""
    trunk, drawn = random_trunk("dinobloom-s")
    teacher = {f"backbone.{key}": value for key, value in drawn.items()}
    teacher |= {"backbone.mask_token": torch.ones(1, DIM), "dino_head.mlp.0.weight": torch.ones(2, 2)}
    _, network = loaded("dinobloom-s", {"teacher": teacher}, tmp_path)
    close(network(images(224)), trunk.forward_features(images(224))[:, 0])


@torch.inference_mode()
def test_dinov2s_own_gates_and_registers_are_translated(tmp_path):
    trunk, drawn = random_trunk("hibou-b", mlp_ratio=4)
    positions, own = torch.randn(1, 1, DIM), {"mask_token": torch.zeros(1, DIM)}
    for key, value in drawn.items():
        own[key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")] = value
    own["register_tokens"] = own.pop("reg_token")
    own["pos_embed"] = torch.cat([positions, own["pos_embed"]], dim=1)
    own["cls_token"] = own["cls_token"] - positions
    _, network = loaded("hibou-b", own, tmp_path, mlp_ratio=4)
    close(network(images(224)), trunk.forward_features(images(224))[:, 0])


@torch.inference_mode()
def test_ctranspath_reads_the_old_swins_names(tmp_path):
    entry = ENCODERS["ctranspath"]
    trunk = create_trunk(entry.load, entry.card).eval()
    drawn = {k: v if v.dtype == torch.int64 else v * 1.5 + 0.01 for k, v in trunk.state_dict().items()}
    trunk.load_state_dict(drawn)
    old = {}
    for (
        key,
        value,
    ) in drawn.items():  # the old swin merged patches at the end of a stage, the new at its start
        stage = int(key.split(".")[1]) if key.startswith("layers.") else 0
        old[key.replace(f"layers.{stage}.", f"layers.{stage - 1}.") if ".downsample." in key else key] = value
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    torch.save({"model": old}, tmp_path / "ctranspath.pth")
    config = EncoderConfig(encoder="ctranspath", weights=str(tmp_path / "ctranspath.pth"))
    network = build_network(entry.load, entry.card, config).eval()
    close(network(images(224, 1)), trunk.forward_features(images(224, 1)).mean((1, 2)))


@torch.inference_mode()
def test_ctranspaths_stem_is_two_strided_convolutions_and_a_pointwise_one():
    entry = ENCODERS["ctranspath"]
    stem = create_trunk(entry.load, entry.card).eval().patch_embed
    x = images(224, 1)
    for k in (0, 3):
        conv, batch_norm = stem.proj[k], stem.proj[k + 1]
        x = conv2d(x, conv.weight, stride=2, padding=1)
        scale = batch_norm.weight / (batch_norm.running_var + batch_norm.eps).sqrt()
        x = (x - batch_norm.running_mean[:, None, None]) * scale[:, None, None] + batch_norm.bias[
            :, None, None
        ]
        x = x.clamp(min=0)
    assert [tuple(stem.proj[k].weight.shape[:2]) for k in (0, 3, 6)] == [(12, 3), (24, 12), (96, 24)]
    x = conv2d(x, stem.proj[6].weight, stem.proj[6].bias).permute(0, 2, 3, 1)
    close(stem(images(224, 1)), layer_norm(x, (96,), stem.norm.weight, stem.norm.bias))


@pytest.mark.parametrize("translate", [from_transformers, from_clip, from_conch])
def test_timms_own_names_stay(translate):
    trunk, drawn = random_trunk("phikon")
    assert translate(dict(drawn), trunk).keys() == from_timm(dict(drawn), trunk).keys() == drawn.keys()


@pytest.mark.parametrize("name", ["phikon-v2", "plip", "conch", "ctranspath"])
def test_foreign_checkpoints_that_do_not_fit_are_refused(name, tmp_path):
    entry = ENCODERS[name]
    torch.save(transformers_vit(token_px=16, side=14), tmp_path / "a.bin")
    config = EncoderConfig(encoder=name, weights=str(tmp_path / "a.bin"))
    with pytest.raises(ConfigError, match="do not fit"):
        build_network(
            replace(entry.load, options={**entry.load.options, "depth": 1})
            if name != "ctranspath"
            else entry.load,
            entry.card,
            config,
        )
