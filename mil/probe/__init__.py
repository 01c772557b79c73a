"""The verb `probe`: how good encoders are for one's own tissue, on tiles whose class is known."""

from .config import ProbeConfig
from .shown import probe_tables
from .verb import Probed, probe

__all__ = ["ProbeConfig", "Probed", "probe", "probe_tables"]
