"""Patches to vectors: encoders, extraction and feature bags."""

from . import stain_stats, timm_encoder  # noqa: F401  being imported files their encoders in the registry
from .bag import BagConfig, FeatureBag, bag_fingerprint, extract_features, load_bag_configs, load_features
from .encoder import (
    ENCODERS,
    PRECISIONS,
    PREFIXES,
    Encoder,
    EncoderCard,
    EncoderConfig,
    EncoderEntry,
    find_encoder,
    load_encoder,
)
from .exchange import FEATURES_FORMATS, OtherBag, read_other_bag, save_other_bag
from .export import export_bag
from .instances import Instances
from .pack import pack_features
from .store import FeatureStore, store_fingerprint
from .stored_patches import load_patches

__all__ = [
    "ENCODERS",
    "FEATURES_FORMATS",
    "PRECISIONS",
    "PREFIXES",
    "BagConfig",
    "Encoder",
    "EncoderCard",
    "EncoderConfig",
    "EncoderEntry",
    "FeatureBag",
    "FeatureStore",
    "Instances",
    "OtherBag",
    "bag_fingerprint",
    "export_bag",
    "extract_features",
    "find_encoder",
    "load_bag_configs",
    "load_encoder",
    "load_features",
    "load_patches",
    "pack_features",
    "read_other_bag",
    "save_other_bag",
    "store_fingerprint",
]
