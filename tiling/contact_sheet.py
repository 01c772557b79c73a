"""A contact sheet: many slides on one picture, each a card with a few words."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, sqrt

from PIL import Image, ImageDraw

from .legend import Colour
from .lettering import draw_line, fit

CARD_PICTURE_PX = (208, 150)  # the room for a slide on its card
CARDS_A_SHEET, _COLUMNS = 100, 10
_PAD_PX, _GAP_PX, _BORDER_PX, _MARGIN_PX = 8, 10, 4, 20
_TEXT_PX, _SMALL_PX, _TITLE_PX = 14.0, 12.0, 22.0
_STEP = 1.35  # from line to line, of the text's height
_LEAST_COLUMNS = 5  # the title needs the room
_INK, _FAINT, _PAPER, _CARD, _NOTHING = (
    (28, 28, 30), (95, 95, 100), (255, 255, 255), (247, 247, 248), (190, 190, 194)
)  # fmt: skip
_QUIET = (214, 214, 218)  # the border of a card that needs no look


@dataclass(frozen=True)
class Card:
    """One slide: `figures` in small lines below its picture, `flag` what is suspicious, in `colour`.

    A slide without a picture has a grey card with its `message`.
    """

    title: str
    picture: Image.Image | None = None
    figures: tuple[str, ...] = ()
    message: str = ""
    flag: str = ""
    colour: Colour = _QUIET


def contact_sheet(
    cards: Iterable[Card], n_cards: int, title: str, *, picture_px: tuple[int, int] = CARD_PICTURE_PX,
    n_figures: int = 2,
) -> Image.Image:  # fmt: skip
    """Return up to 100 cards on one sheet, row by row, in RGB; they are asked for one at a time.

    `picture_px` is the room for a picture on its card, `n_figures` for how many lines of figures there is.

    Raises:
        ValueError: more cards than a sheet has room for.
    """
    if n_cards > CARDS_A_SHEET:
        raise ValueError(f"{n_cards} cards for a sheet of {CARDS_A_SHEET}")
    columns = min(_COLUMNS, max(_LEAST_COLUMNS, ceil(sqrt(n_cards) * 1.1)))
    width, height = size_px = _card_size_px(picture_px, n_figures)
    head = round(2.2 * _TITLE_PX)
    rows = max(1, ceil(n_cards / columns))
    sheet_width = 2 * _MARGIN_PX + columns * (width + _GAP_PX) - _GAP_PX
    sheet = Image.new(
        "RGB", (sheet_width, 2 * _MARGIN_PX + head + rows * (height + _GAP_PX) - _GAP_PX), _PAPER
    )
    line = fit(title, _TITLE_PX, sheet_width - 2 * _MARGIN_PX)[0]
    draw_line(ImageDraw.Draw(sheet), (_MARGIN_PX, _MARGIN_PX + _TITLE_PX / 2), line, _TITLE_PX, _INK)
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        x, y = _MARGIN_PX + column * (width + _GAP_PX), _MARGIN_PX + head + row * (height + _GAP_PX)
        sheet.paste(_drawn(card, picture_px, size_px), (x, y))
    return sheet


def _card_size_px(picture_px: tuple[int, int], n_figures: int) -> tuple[int, int]:
    text = _STEP * (2 * _TEXT_PX + n_figures * _SMALL_PX)
    return picture_px[0] + 2 * (_PAD_PX + _BORDER_PX), round(picture_px[1] + text + 4 * _PAD_PX)


def _drawn(card: Card, picture_px: tuple[int, int], size_px: tuple[int, int]) -> Image.Image:
    (width, height), image = size_px, Image.new("RGB", size_px, _CARD)
    draw = ImageDraw.Draw(image)
    border = _BORDER_PX if card.flag else 1
    draw.rectangle((0, 0, width - 1, height - 1), outline=card.colour, width=border)
    left, y = _BORDER_PX + _PAD_PX, float(_BORDER_PX)
    if card.flag:
        draw.rectangle((0, 0, width - 1, y + _STEP * _TEXT_PX), fill=card.colour)
        word = fit(card.flag, _TEXT_PX, picture_px[0])[0]
        draw_line(draw, (left, y + _STEP * _TEXT_PX / 2 - 2), word, _TEXT_PX, _on(card.colour))
    y += _STEP * _TEXT_PX + _PAD_PX
    _show(image, draw, card, (left, round(y), *picture_px))
    y += picture_px[1] + _PAD_PX
    for text, size, colour in ((card.title, _TEXT_PX, _INK), *((f, _SMALL_PX, _FAINT) for f in card.figures)):
        line = fit(text, size, picture_px[0])[0]
        draw_line(draw, (left, y + size / 2), line, size, colour)
        y += _STEP * size
    return image


def _show(image: Image.Image, draw: ImageDraw.ImageDraw, card: Card, room: tuple[int, int, int, int]) -> None:
    """Put the picture in the middle of its room (x, y, width, height), or the message on grey."""
    x, y, width, height = room
    if card.picture is not None:
        offset = (width - card.picture.width) // 2, (height - card.picture.height) // 2
        image.paste(card.picture, (x + offset[0], y + offset[1]))
        return
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_NOTHING)
    lines = fit(card.message, _TEXT_PX, width - 2 * _PAD_PX, n_lines=6)
    for number, line in enumerate(lines):
        place = (x + _PAD_PX, y + _PAD_PX + (number + 0.5) * _STEP * _TEXT_PX)
        draw_line(draw, place, line, _TEXT_PX, _INK)


def _on(colour: Colour) -> Colour:
    """The colour of text on `colour`: black or white, whichever is easier to read."""
    red, green, blue = colour
    return _PAPER if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else _INK
