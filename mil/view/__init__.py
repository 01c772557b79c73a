"""The verb `view`: a cohort and its slides in a browser, heatmaps over them, served on this machine."""

from .cohort_table import key_of
from .config import ViewConfig
from .server import ViewServer, view

__all__ = ["ViewConfig", "ViewServer", "key_of", "view"]
