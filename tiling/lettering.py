"""Text for pictures: any name, in fonts that have its letters, shortened to the room there is."""

import unicodedata
from bisect import bisect_right
from functools import lru_cache
from itertools import groupby

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PROBE_PX = 16
_MISSING = "\uffff"  # no character at all: a font draws it as it draws whatever it lacks
# Pillow's own font, the first choice, has little beyond ASCII; these are asked for the rest, in order.
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "Arial.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "wqy-zenhei.ttc",
)
_LONGEST = 400  # letters of a text that are looked at, far more than any panel has room for
_BREAK_AFTER = " -_/.,"
_HALF_CAPITAL = 0.35  # of the text's height: from the base line to the middle of a capital letter


def fit(text: str, height_px: float, width_px: float, *, n_lines: int = 1) -> list[str]:
    """Return `text` in at most `n_lines` lines of `width_px`, shortened in the middle if need be.

    Line breaks and what cannot be seen become spaces; a letter that no font at hand has becomes its
    plain form ("é" to "e") or "?".
    """
    text = "".join(_drawable(letter) for letter in _visible(text))
    if len(text) > _LONGEST:
        text = _shortened(text, _LONGEST)
    lines = _broken(text, height_px, width_px)
    if len(lines) <= n_lines:
        return lines
    fits, fails = 0, len(text)  # letters kept
    while fails - fits > 1:
        kept = (fits + fails) // 2
        lines = _broken(_shortened(text, kept), height_px, width_px)
        fits, fails = (kept, fails) if len(lines) <= n_lines else (fits, kept)
    return _broken(_shortened(text, fits), height_px, width_px)


def draw_line(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, height_px: float, colour: tuple
) -> None:
    """Write one line from `place` (x, y) on, `y` at the middle of its capital letters."""
    x, y = place
    for run, font in _runs(text, height_px):
        draw.text((x, y + _HALF_CAPITAL * height_px), run, fill=colour, font=font, anchor="ls")
        x += font.getlength(run)


def can_draw(letter: str) -> bool:
    """Return whether some font at hand has the letter."""
    return any(_has(name, letter) for name in _names())


def _shortened(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return f"{text[:head].rstrip()}…{text[len(text) - (kept - head) :].lstrip()}"


def _visible(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _drawable(letter: str) -> str:
    base = unicodedata.normalize("NFKD", letter)[0]
    return next((form for form in (letter, base) if can_draw(form)), "?")


def _broken(text: str, height_px: float, width_px: float) -> list[str]:
    """Return the lines of `text`, each as long as fits, broken between words if they allow it."""
    lines = []
    while text:
        end = max(1, _n_fitting(text, height_px, width_px))  # or there is no end
        words_end = 1 + max(text.rfind(mark, 0, end) for mark in _BREAK_AFTER)
        if end < len(text) and words_end > end // 2:
            end = words_end
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return lines or [""]


def _n_fitting(text: str, height_px: float, width_px: float) -> int:
    lengths = range(len(text) + 1)
    return bisect_right(lengths, width_px, key=lambda n: _width_px(text[:n], height_px)) - 1


def _width_px(text: str, height_px: float) -> float:
    return sum(font.getlength(run) for run, font in _runs(text, height_px))


def _runs(text: str, height_px: float) -> list[tuple[str, Font]]:
    """Return the stretches of `text` that one font can draw, each with that font."""
    parts = groupby(text, key=lambda letter: next((n for n in _names() if _has(n, letter)), ""))
    return [("".join(letters), _font(name, height_px)) for name, letters in parts]


@lru_cache(maxsize=4096)
def _has(name: str, letter: str) -> bool:
    return letter.isspace() or _drawn(name, letter) != _drawn(name, _MISSING)


def _drawn(name: str, letter: str) -> bytes:
    probe = Image.new("L", (3 * _PROBE_PX, 3 * _PROBE_PX))
    ImageDraw.Draw(probe).text((_PROBE_PX, _PROBE_PX), letter, fill=255, font=_font(name, _PROBE_PX))
    return probe.tobytes()


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    """Return the fonts at hand; "" is Pillow's own."""
    found = [""]
    for name in _SYSTEM_FONTS:
        try:
            ImageFont.truetype(name, _PROBE_PX)
        except OSError:
            continue  # not on this machine
        found.append(name)
    return tuple(found)


@lru_cache(maxsize=64)
def _font(name: str, height_px: float) -> Font:
    return ImageFont.truetype(name, height_px) if name else ImageFont.load_default(size=height_px)
