"""Patches to vectors: encoders, extraction and feature bags."""

from . import families, zoo_general, zoo_pathology  # noqa: F401  being imported files their encoders
from .bag import BagConfig, FeatureBag, bag_fingerprint, load_bag_configs, load_features
from .devices import find_devices
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
from .extraction import extract_cohort, extract_features
from .search import IndexConfig, Neighbours, TileIndex
from .slide_in_work import Extracted, ExtractJob
from .stored_patches import load_patches

__all__ = [
    "ENCODERS",
    "PRECISIONS",
    "PREFIXES",
    "BagConfig",
    "Encoder",
    "EncoderCard",
    "EncoderConfig",
    "EncoderEntry",
    "ExtractJob",
    "Extracted",
    "FeatureBag",
    "IndexConfig",
    "Neighbours",
    "TileIndex",
    "bag_fingerprint",
    "extract_cohort",
    "extract_features",
    "find_devices",
    "find_encoder",
    "load_bag_configs",
    "load_encoder",
    "load_features",
    "load_patches",
]
