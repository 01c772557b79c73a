"""A fitted model and its folder: recipe, calibration, novelty, card, typical tiles, and its head as ONNX."""

from .card import TrainedOn, read_card, write_card
from .export import export_model
from .fitted import Fitted, ModelPrediction
from .novelty import Centres, Novelty, profile
from .recipe import Recipe, stored_recipe_fingerprint

__all__ = [
    "Centres",
    "Fitted",
    "ModelPrediction",
    "Novelty",
    "Recipe",
    "TrainedOn",
    "export_model",
    "profile",
    "read_card",
    "stored_recipe_fingerprint",
    "write_card",
]
