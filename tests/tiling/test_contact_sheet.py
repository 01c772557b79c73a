import numpy as np
import pytest
from PIL import Image

from tiling import CARD_PICTURE_PX, CARDS_A_SHEET, Card, contact_sheet

RED = (213, 94, 0)


def picture(colour):
    return Image.new("RGB", CARD_PICTURE_PX, colour)


def boxes_of(sheet, colour):
    """Left, top, right and bottom of the pixels of a colour."""
    rows, columns = np.nonzero((np.array(sheet) == colour).all(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_cards_come_row_by_row():
    colours = [(10 * k, 255 - 10 * k, 128) for k in range(13)]
    sheet = contact_sheet([Card(f"{k}", picture(c)) for k, c in enumerate(colours)], 13, "13 slides")
    corners = [boxes_of(sheet, c)[:2] for c in colours]
    assert corners == sorted(corners, key=lambda xy: (xy[1], xy[0]))
    assert len({y for _, y in corners}) > 1
    for colour in colours:  # none covers another
        left, top, right, bottom = boxes_of(sheet, colour)
        assert (right - left + 1, bottom - top + 1) == CARD_PICTURE_PX


def test_what_is_suspicious_has_a_border_of_its_colour_and_the_rest_has_not():
    cards = [Card("a", picture((9, 9, 9)), flag="much ink", colour=RED), Card("b", picture((8, 8, 8)))]
    sheet = contact_sheet(cards, 2, "two")
    left, top, right, bottom = boxes_of(sheet, RED)
    for card, is_inside in (((9, 9, 9), True), ((8, 8, 8), False)):
        box = boxes_of(sheet, card)
        assert (left < box[0] and right > box[2] and top < box[1] and bottom > box[3]) == is_inside


def test_a_slide_without_picture_is_grey_with_its_message():
    told, silent = (
        np.array(contact_sheet([Card("a", message=text)], 1, "one"))
        for text in ("states no resolution " * 40, "")
    )
    different = (told != silent).any(axis=2)
    rows, columns = np.nonzero(different)
    grey = boxes_of(silent, (190, 190, 194))
    assert len(rows) > 500
    assert grey[0] < columns.min() < columns.max() < grey[2]
    assert grey[1] < rows.min() < rows.max() < grey[3]


def test_cards_are_asked_for_one_at_a_time():
    drawn = []

    def cards():
        for k in range(CARDS_A_SHEET):
            shown = picture((k, k, k))
            yield Card(f"{k}", shown)
            drawn.append(k)

    sheet = contact_sheet(cards(), CARDS_A_SHEET, "full")
    assert drawn == list(range(CARDS_A_SHEET))
    assert max(sheet.size) < 3000


@pytest.mark.parametrize("n", [0, 1])
def test_few_slides_make_a_sheet_too(n):
    sheet = contact_sheet([Card("a", picture((1, 2, 3)))] * n, n, "few")
    assert sheet.width > 500


def test_more_than_a_sheet_holds_is_refused():
    with pytest.raises(ValueError, match="101 cards"):
        contact_sheet([], 101, "too many")
