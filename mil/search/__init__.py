"""The verb `search`: the tiles of a run that look most like a tile, a region or a picture."""

from .options import QueryOptions
from .query import ImageQuery, RegionQuery, TileQuery
from .verb import Found, SearchConfig, open_index, search

__all__ = [
    "Found",
    "ImageQuery",
    "QueryOptions",
    "RegionQuery",
    "SearchConfig",
    "TileQuery",
    "open_index",
    "search",
]
