"""What an OME-TIFF of slidebag says of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .tiff_index import DAMAGED, open_tiff

_FINGERPRINT = "slidebag_fingerprint"


def ome_metadata(
    slide_id: str, pixel_um: tuple[float, float], fingerprint: str, about: Mapping[str, str]
) -> dict[str, Any]:
    """Return the metadata of an image for tifffile; `pixel_um` is the (width, height) of its pixels in µm."""
    told = {_FINGERPRINT: fingerprint, **about}
    return {
        "Name": xml_text(slide_id),
        "PhysicalSizeX": pixel_um[0],
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_um[1],
        "PhysicalSizeYUnit": "µm",
        "MapAnnotation": {xml_text(name): xml_text(text) for name, text in told.items()},
    }


def ome_fingerprint(path: Path) -> str | None:
    """Return the fingerprint in an OME-TIFF of slidebag, None where there is none to trust."""
    try:
        with open_tiff(path) as file:
            text = file.ome_metadata
        found = [e.text for e in ElementTree.fromstring(text or "").iter() if e.get("K") == _FINGERPRINT]
    except (*DAMAGED, ElementTree.ParseError):
        return None  # absent or damaged: to be made again
    return found[0] if found else None


def xml_text(text: str) -> str:
    """Return the text without what XML cannot hold: control characters, and halves of UTF-16 pairs."""
    whole = text.encode(errors="replace").decode()
    return "".join(letter if letter >= " " and letter not in "\ufffe\uffff" else " " for letter in whole)
