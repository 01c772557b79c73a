"""An own encoder, learned from unlabelled tiles: self-distillation, or distillation from other encoders."""

from .config import PretrainConfig
from .verb import Pretrained, PretrainStep, pretrain

__all__ = ["PretrainConfig", "PretrainStep", "Pretrained", "pretrain"]
