"""The verb `view`: a cohort and its slides in a browser, heatmaps over them, served on this machine."""

from .config import ViewConfig
from .server import ViewServer, view

__all__ = ["ViewConfig", "ViewServer", "view"]
