"""Encoders that were not made for pathology, and the one that needs no weights: cards and architectures."""

from .architecture import Architecture
from .encoder import ENCODERS, Encoder, EncoderCard, EncoderConfig, EncoderEntry

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _vit(name: str, timm_name: str, *, dim: int, token_px: int, licence: str) -> None:
    """Register a vision transformer whose vector is the class token, as its authors evaluate it."""
    card = EncoderCard(
        name=name,
        dim=dim,
        input_px=224,
        px_multiple=token_px,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        pooling="class token",
        token_dim=dim,
        licence=licence,
        source=f"timm/{timm_name}",
    )
    ENCODERS.register(name)(EncoderEntry(card, Architecture(timm_name=timm_name)))


# (the part of the name, timm's word for the size, features)
_SIZES = (("s", "small", 384), ("b", "base", 768), ("l", "large", 1024), ("g", "giant", 1536))

for _letter, _size, _dim in _SIZES[:2]:  # arXiv 2104.14294
    for _px in (16, 8):
        _vit(
            f"dino-vit{_letter}{_px}", f"vit_{_size}_patch{_px}_224.dino",
            dim=_dim, token_px=_px, licence="Apache-2.0",
        )  # fmt: skip

for _letter, _size, _dim in _SIZES:  # arXiv 2304.07193; with registers: 2309.16588
    for _name, _registers in (("dinov2", ""), ("dinov2-reg", "_reg4")):
        _vit(
            f"{_name}-vit{_letter}14", f"vit_{_size}_patch14{_registers}_dinov2.lvd142m",
            dim=_dim, token_px=14, licence="Apache-2.0",
        )  # fmt: skip

for _name, _size, _dim in (  # arXiv 2508.10104
    *((f"vit{letter}16", size, dim) for letter, size, dim in _SIZES[:3]),
    ("vits16plus", "small_plus", 384),
    ("vith16plus", "huge_plus", 1280),
    ("vit7b16", "7b", 4096),
):
    _vit(
        f"dinov3-{_name}", f"vit_{_size}_patch16_dinov3.lvd1689m",
        dim=_dim, token_px=16, licence="DINOv3 License",
    )  # fmt: skip

ENCODERS.register("resnet50")(
    EncoderEntry(
        EncoderCard(
            name="resnet50",
            dim=2048,
            input_px=224,
            px_multiple=32,
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            pooling="mean",
            licence="BSD-3-Clause",
            source="timm/resnet50.tv_in1k",
        ),
        Architecture(timm_name="resnet50.tv_in1k"),
    )
)


def _load_stain_stats(card: EncoderCard, config: EncoderConfig, device: str) -> Encoder:
    from .stain_stats import load  # scikit-image waits until it is needed

    return load(card, config, device)


ENCODERS.register("stain-stats")(
    EncoderEntry(
        EncoderCard(
            name="stain-stats",
            dim=72,
            input_px=224,
            px_multiple=1,
            pooling="statistics",
            licence="Apache-2.0",
            source="slidebag",
        ),
        _load_stain_stats,
    )
)
