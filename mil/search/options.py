"""The query of a search as the command line gives it."""

from dataclasses import dataclass, field
from pathlib import Path

from tiling import ConfigError

from .query import ImageQuery, Query, RegionQuery, TileQuery

_NUMBERS = set("0123456789,- ")


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """What is searched for: a tile or a region of a slide, or a picture."""

    slide: str | None = field(default=None, metadata={"help": "slide_id of the slide that is asked with"})
    at: str | None = field(default=None, metadata={"help": "X,Y: its tile that holds this level-0 pixel"})
    region: str | None = field(
        default=None,
        metadata={"help": "its tiles in the polygons of a GeoJSON file, or in X,Y,WIDTH,HEIGHT (level 0)"},
    )
    image: str | None = field(default=None, metadata={"help": "or a picture of one patch"})
    image_mpp: float | None = field(
        default=None, metadata={"help": "the picture's µm/px: it is resized, its middle is taken"}
    )
    weights: str | None = field(
        default=None, metadata={"help": "local weights of the run's encoder, for --image"}
    )
    device: str = field(default="cpu", metadata={"help": "where the encoder runs, for --image"})

    def query(self) -> Query:
        """Return the query that the options mean.

        Raises:
            ConfigError: they mean none, or several, or hold no numbers.
        """
        n_given = sum(option is not None for option in (self.at, self.region, self.image))
        if n_given != 1 or (self.slide is None) != (self.image is not None):
            raise ConfigError(
                "what to search for is not clear",
                hint="give --slide ID with --at X,Y or --region FILE or X,Y,WIDTH,HEIGHT; or --image FILE",
            )
        if self.image is None and (self.image_mpp, self.weights) != (None, None):
            raise ConfigError("--image-mpp and --weights are for --image", hint="leave them out")
        if self.image is not None:
            return ImageQuery(Path(self.image), self.image_mpp, self.weights, self.device)
        slide_id, region = self.slide or "", self.region or ""
        if self.at is not None:
            x, y = _numbers(self.at, 2, "--at", "X,Y")
            return TileQuery(slide_id, x, y)
        if Path(region).is_file() or not set(region) <= _NUMBERS:
            return RegionQuery(slide_id, Path(region))
        x, y, width, height = _numbers(region, 4, "--region", "X,Y,WIDTH,HEIGHT")
        return RegionQuery(slide_id, (x, y, width, height))


def _numbers(text: str, n: int, option: str, wanted: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != n:
        raise ConfigError(f"{option} is {text!r}", hint=f"give {wanted} in level-0 pixels, whole numbers")
    return numbers
