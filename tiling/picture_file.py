"""Pictures as PNG files that say what they were made from."""

from pathlib import Path

from PIL import Image, PngImagePlugin

from .files import replacing

_TEXT_KEY = "slidebag_fingerprint"


def write_picture(path: Path, picture: Image.Image, *, fingerprint: str, about: str) -> None:
    """Write a PNG that takes its place only when whole; `about` is the slide's id or what else it shows."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(_TEXT_KEY, fingerprint)
    text.add_itxt("slide_id", about.encode(errors="replace").decode())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=text, compress_level=2)


def picture_fingerprint(path: Path) -> str | None:
    """Return the fingerprint in a PNG of `write_picture`, None where there is none to trust."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            found = picture.info.get(_TEXT_KEY)
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for a damaged PNG
        return None  # absent or damaged: to be made again
    return None if found is None else str(found)
