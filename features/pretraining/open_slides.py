"""The slides that tiles are taken from, of which the latest few stay open."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiling import Slide, SlideError, TileGrid, open_slide

_MOST = 8

_open_slides: OrderedDict[str, Slide] = OrderedDict()  # of this process, the latest last


def slide_of(grid: TileGrid) -> Slide:
    """Return the slide of a grid, open until there are too many or `closing_slides` ends.

    Raises:
        SlideError: it cannot be opened, or is not the file that was tiled.
    """
    path = grid.slide_path
    if path in _open_slides:
        _open_slides.move_to_end(path)
        return _open_slides[path]
    if len(_open_slides) == _MOST:
        _open_slides.popitem(last=False)[1].close()
    slide = open_slide(Path(path), id=grid.slide_id, mpp=grid.mpp)
    if slide.identify() != grid.slide_fingerprint:
        slide.close()
        raise SlideError(
            f"{grid.slide_id}: {path} was changed since it was tiled", hint="run `slidebag tile` again"
        )
    _open_slides[path] = slide
    return slide


@contextmanager
def closing_slides() -> Iterator[None]:
    """Close, at the end, the slides that tiles were taken from."""
    try:
        yield
    finally:
        while _open_slides:
            _open_slides.popitem()[1].close()
