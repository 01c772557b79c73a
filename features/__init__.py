"""Patches to vectors: encoders, extraction and feature bags."""

from . import families, shipped, zoo_general, zoo_pathology  # noqa: F401  being imported files their encoders
from .bag import BagConfig, FeatureBag, bag_fingerprint, load_bag_configs, load_beside, load_features
from .checkpoint import Checkpoint, Saved
from .devices import find_devices
from .encoder import (
    DEFAULT_ENCODER,
    ENCODERS,
    ENGINES,
    PRECISIONS,
    PREFIXES,
    Encoder,
    EncoderCard,
    EncoderConfig,
    EncoderEntry,
    find_encoder,
    is_folder_name,
    load_encoder,
    whole_path,
)
from .exchange import FEATURES_FORMATS, OtherBag, imported_from, read_other_bag, save_other_bag
from .export import export_bag
from .extraction import extract_cohort, extract_features
from .instances import Instances, Place, map_rows, place_of
from .near import nearest_rows, vote_of_near
from .pack import pack_features
from .pretraining import PretrainConfig, Pretrained, PretrainStep, pretrain
from .search import IndexConfig, Neighbours, TileIndex
from .search_bags import unit
from .slide_in_work import Extracted, ExtractJob
from .slide_reading import refuse_other_file
from .store import FeatureStore, store_fingerprint
from .stored_patches import load_patches
from .tile_folder import CheckedTiles, TileFolder, as_patch

__all__ = [
    "DEFAULT_ENCODER",
    "ENCODERS",
    "ENGINES",
    "FEATURES_FORMATS",
    "PRECISIONS",
    "PREFIXES",
    "BagConfig",
    "CheckedTiles",
    "Checkpoint",
    "Encoder",
    "EncoderCard",
    "EncoderConfig",
    "EncoderEntry",
    "ExtractJob",
    "Extracted",
    "FeatureBag",
    "FeatureStore",
    "IndexConfig",
    "Instances",
    "Neighbours",
    "OtherBag",
    "Place",
    "PretrainConfig",
    "PretrainStep",
    "Pretrained",
    "Saved",
    "TileFolder",
    "TileIndex",
    "as_patch",
    "bag_fingerprint",
    "export_bag",
    "extract_cohort",
    "extract_features",
    "find_devices",
    "find_encoder",
    "imported_from",
    "is_folder_name",
    "load_bag_configs",
    "load_beside",
    "load_encoder",
    "load_features",
    "load_patches",
    "map_rows",
    "nearest_rows",
    "pack_features",
    "place_of",
    "pretrain",
    "read_other_bag",
    "refuse_other_file",
    "save_other_bag",
    "store_fingerprint",
    "unit",
    "vote_of_near",
    "whole_path",
]
