"""Encoders made for pathology, each in the form its authors prescribe: cards and architectures.

`mpp` is None where the authors trained at several resolutions or name none; `px_multiple` is None where
their own code takes one patch size only.
"""

from typing import Any

from .architecture import Architecture
from .encoder import ENCODERS, EncoderCard, EncoderEntry

_IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CLIP: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
_HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_LUNIT: dict[str, Any] = {
    "mean": (0.70322989, 0.53606487, 0.66096631),
    "std": (0.21716536, 0.26081574, 0.20723464),
}
_BIOPTIMUS: dict[str, Any] = {"mean": (0.707223, 0.578729, 0.703617), "std": (0.211883, 0.230117, 0.177517)}
_HIBOU: dict[str, Any] = {"mean": (0.7068, 0.5755, 0.722), "std": (0.195, 0.2316, 0.1816)}

_BY_NC_ND = "CC-BY-NC-ND-4.0"
_SIZES = (("s", "small", 384), ("b", "base", 768), ("l", "large", 1024), ("g", "giant", 1536))


def _add(architecture: Architecture, *, gated: bool = False, **facts: Any) -> None:
    """Register an encoder: the token's width is the vector's, and the hub its source, if not told else."""
    facts = {
        "input_px": 224,
        "pooling": "class token",
        "token_dim": facts["dim"],
        "source": architecture.hub,
        "access": f"https://huggingface.co/{architecture.hub}" if gated else "",
    } | facts
    card = EncoderCard(**facts)
    ENCODERS.register(card.name)(EncoderEntry(card, architecture))


# Kaiko: arXiv 2404.15217, github.com/kaiko-ai/towards_large_pathology_fms; 1aurent's copies for timm
_KAIKO: dict[str, Any] = {"licence": "Kaiko non-commercial", **_HALF}
for _letter, _size, _dim in _SIZES[:2]:
    for _px in (16, 8):
        _timm_name = f"vit_{_size}_patch{_px}_224"
        _add(
            Architecture(
                timm_name=_timm_name, hub=f"1aurent/{_timm_name}.kaiko_ai_towards_large_pathology_fms"
            ),
            name=f"kaiko-vit{_letter}{_px}", dim=_dim, px_multiple=_px, **_KAIKO,
        )  # fmt: skip
_add(
    Architecture(
        timm_name="vit_large_patch14_reg4_dinov2",
        hub="1aurent/vit_large_patch14_reg4_dinov2.kaiko_ai_towards_large_pathology_fms",
    ),
    name="kaiko-vitl14", dim=1024, px_multiple=14, **_KAIKO,
)  # fmt: skip

# Lunit: arXiv 2212.04690, github.com/lunit-io/benchmark-ssl-pathology; 1aurent's copies for timm
for _px in (16, 8):
    _timm_name = f"vit_small_patch{_px}_224"
    _add(
        Architecture(timm_name=_timm_name, hub=f"1aurent/{_timm_name}.lunit_dino"),
        name=f"lunit-vits{_px}", dim=384, px_multiple=_px, licence="Lunit non-commercial", **_LUNIT,
    )  # fmt: skip

# DinoBloom, single cells of blood and marrow: arXiv 2404.05022; 1aurent's copies for timm, and the
# authors' own files (zenodo.org/records/10908163) by --weights
for _letter, _size, _dim in _SIZES:
    _add(
        Architecture(
            timm_name=f"vit_{_size}_patch14_dinov2",
            options={"img_size": 224},
            hub=f"1aurent/vit_{_size}_patch14_224.dinobloom",
        ),
        name=f"dinobloom-{_letter}", dim=_dim, px_multiple=14, licence="Apache-2.0", **_IMAGENET,
    )  # fmt: skip

# UNI, UNI2-h: doi 10.1038/s41591-024-02857-3
_add(
    Architecture(
        timm_name="vit_large_patch16_224", options={"init_values": 1e-5}, hub="MahmoodLab/UNI"
    ),
    name="uni", dim=1024, px_multiple=16, mpp=0.5, licence=_BY_NC_ND, gated=True, **_IMAGENET,
)  # fmt: skip
_add(
    Architecture(
        timm_name="vit_giant_patch14_224",
        options={
            "depth": 24, "num_heads": 24, "embed_dim": 1536, "mlp_ratio": 2.66667 * 2,
            "init_values": 1e-5, "no_embed_class": True, "reg_tokens": 8,
        },
        swiglu=True,
        hub="MahmoodLab/UNI2-h",
    ),
    name="uni2-h", dim=1536, px_multiple=14, mpp=0.5, licence=_BY_NC_ND, gated=True, **_IMAGENET,
)  # fmt: skip

# Virchow: doi 10.1038/s41591-024-03141-0; Virchow2, of mixed resolutions: arXiv 2408.00738
_VIRCHOW: dict[str, Any] = {"init_values": 1e-5, "mlp_ratio": 5.3375}
_add(
    Architecture(
        timm_name="vit_huge_patch14_224", options=_VIRCHOW, swiglu=True, hub="paige-ai/Virchow"
    ),
    name="virchow", dim=2560, token_dim=1280, pooling="class token + mean", px_multiple=14, mpp=0.5,
    licence="Apache-2.0", gated=True, **_IMAGENET,
)  # fmt: skip
_add(
    Architecture(
        timm_name="vit_huge_patch14_224",
        options=_VIRCHOW | {"reg_tokens": 4},
        swiglu=True,
        hub="paige-ai/Virchow2",
    ),
    name="virchow2", dim=2560, token_dim=1280, pooling="class token + mean", px_multiple=14,
    licence=_BY_NC_ND, gated=True, **_IMAGENET,
)  # fmt: skip

# H-optimus: github.com/bioptimus/releases; H0-mini, distilled from it: arXiv 2501.16239
for _name, _hub, _licence, _gated in (
    ("h-optimus-0", "bioptimus/H-optimus-0", "Apache-2.0", False),
    ("h-optimus-1", "bioptimus/H-optimus-1", _BY_NC_ND, True),
):
    _add(
        Architecture(timm_name="vit_giant_patch14_reg4_dinov2", options={"img_size": 224}, hub=_hub),
        name=_name, dim=1536, mpp=0.5, licence=_licence, gated=_gated, **_BIOPTIMUS,
    )  # fmt: skip
_add(
    Architecture(
        timm_name="vit_base_patch14_reg4_dinov2",
        options={"img_size": 224, "mlp_ratio": 2.66667 * 2},
        swiglu=True,
        hub="bioptimus/H0-mini",
    ),
    name="h0-mini", dim=1536, token_dim=768, pooling="class token + mean", mpp=0.5,
    licence=_BY_NC_ND, gated=True, **_BIOPTIMUS,
)  # fmt: skip

# Prov-GigaPath, the tile encoder: doi 10.1038/s41586-024-07441-w; the centre 224 of 256 px at 0.5 µm/px
_add(
    Architecture(
        timm_name="vit_giant_patch14_dinov2",
        options={"img_size": 224, "patch_size": 16},
        hub="prov-gigapath/prov-gigapath",
        file="pytorch_model.bin",  # the slide encoder lies beside it
    ),
    name="gigapath", dim=1536, px_multiple=16, mpp=0.5, licence="Apache-2.0 + conditions", gated=True,
    **_IMAGENET,
)  # fmt: skip

# Phikon, its layer norms as transformers' ViT has them: doi 10.1101/2023.07.21.23292757; v2: arXiv 2409.09173
_add(
    Architecture(
        timm_name="vit_base_patch16_224", norm_eps=1e-12, names="transformers", hub="owkin/phikon"
    ),
    name="phikon", dim=768, mpp=0.5, licence="Owkin non-commercial", **_IMAGENET,
)  # fmt: skip
_add(
    Architecture(
        timm_name="vit_large_patch16_224",
        options={"init_values": 1e-5},
        names="transformers",
        hub="owkin/phikon-v2",
    ),
    name="phikon-v2", dim=1024, mpp=0.5, licence="Owkin non-commercial", **_IMAGENET,
)  # fmt: skip

# Hibou: arXiv 2406.05074
for _letter, _size, _dim, _hub in (
    ("b", "base", 768, "histai/hibou-b"),
    ("l", "large", 1024, "histai/hibou-L"),
):
    # the gated layers are two thirds as wide as plain ones, to a multiple of 8; timm counts both halves
    _gated_width = 2 * ((int(4 * _dim * 2 / 3) + 7) // 8 * 8)
    _add(
        Architecture(
            timm_name=f"vit_{_size}_patch14_reg4_dinov2",
            options={"img_size": 224, "mlp_ratio": _gated_width / _dim},
            swiglu=True,
            names="transformers",
            hub=_hub,
        ),
        name=f"hibou-{_letter}", dim=_dim, mpp=0.5, licence="Apache-2.0", gated=True, **_HIBOU,
    )  # fmt: skip

# Midnight-12k, of mixed resolutions: arXiv 2504.05186; its positions may be those of 518 px, DINOv2's
_add(
    Architecture(
        timm_name="vit_giant_patch14_dinov2",
        options={"img_size": 224},
        names="transformers",
        hub="kaiko-ai/midnight",
    ),
    name="midnight-12k", dim=3072, token_dim=1536, pooling="class token + mean", licence="MIT", **_HALF,
)  # fmt: skip

# CTransPath: doi 10.1016/j.media.2022.102559
_add(
    Architecture(timm_name="swin_tiny_patch4_window7_224", conv_stem=True, hub=""),
    name="ctranspath", dim=768, pooling="mean", licence="GPL-3.0",
    source="github.com/Xiyue-Wang/TransPath", **_IMAGENET,
)  # fmt: skip

# CONCH, before the projection: doi 10.1038/s41591-024-02856-4
_add(
    Architecture(
        timm_name="vit_base_patch16_224",
        options={"img_size": 448},
        names="conch",
        hub="MahmoodLab/conch",
        file="pytorch_model.bin",
    ),
    name="conch", dim=512, token_dim=768, input_px=448, pooling="attentional", mpp=0.5,
    licence=_BY_NC_ND, gated=True, **_CLIP,
)  # fmt: skip

# image towers of CLIP ViT-B/32. PLIP: doi 10.1038/s41591-023-02504-3; QuiltNet: arXiv 2306.11207. Both go on
# from OpenAI's weights, hence its quick GELU, which open_clip fixes for them while they are trained
for _name, _hub, _file, _licence in (
    ("plip", "vinid/plip", "pytorch_model.bin", "non-commercial"),
    ("quiltnet", "wisdomik/QuiltNet-B-32", "open_clip_pytorch_model.bin", "MIT"),
):
    _add(
        Architecture(
            timm_name="vit_base_patch32_clip_quickgelu_224",
            options={"num_classes": 512},
            names="clip",
            hub=_hub,
            file=_file,
        ),
        name=_name, dim=512, token_dim=768, pooling="CLIP projection", licence=_licence, **_CLIP,
    )  # fmt: skip
