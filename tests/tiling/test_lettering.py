import numpy as np
import pytest
from PIL import Image, ImageDraw

from tiling import lettering
from tiling.lettering import can_draw, draw_line, fit


def drawn_width_px(text, height_px):
    image = Image.new("L", (2000, 100))
    draw_line(ImageDraw.Draw(image), (0, 50), text, height_px, (255,))
    columns = np.nonzero(np.asarray(image).any(axis=0))[0]
    return 0 if len(columns) == 0 else columns.max() + 1


def test_what_fits_is_left_alone():
    assert fit("CMU-1", 20, 300) == ["CMU-1"]


@pytest.mark.parametrize("n_lines", [1, 2, 3])
@pytest.mark.parametrize("text", ["TCGA-A8-A08F-01Z-00-DX1.2D5C3D8E-" * 3, "w" * 3000, "one two three " * 20])
def test_long_text_keeps_both_ends_within_the_room(text, n_lines):
    lines = fit(text, 20, 300, n_lines=n_lines)
    assert len(lines) == n_lines
    assert all(drawn_width_px(line, 20) <= 301 for line in lines)
    told = "".join(lines)
    assert told.count("…") == 1
    assert told[:3] == text[:3]
    assert told[-3:] == text.strip()[-3:]
    assert drawn_width_px(lines[0], 20) > 200  # the room is used


def test_lines_break_between_words():
    text = "invasive carcinoma of no special type"
    lines = fit(text, 20, 200, n_lines=3)
    assert len(lines) == 2
    assert " ".join(lines) == text


def test_no_room_at_all_still_ends():
    assert len(fit("a long text", 20, 1)) == 1


def test_what_cannot_be_seen_becomes_a_space():
    assert fit(" a\n\tb\x00c\u202e ", 20, 300) == ["a b c"]


def test_letters_that_no_font_has_become_plain(monkeypatch):
    monkeypatch.setattr(lettering, "_names", lambda: ("",))  # a machine with Pillow's own font alone
    assert not can_draw("肺")
    assert fit("Größe é 肺 x", 20, 300) == ["Gro?e e ? x"]
    assert drawn_width_px("Gro?e", 20) > 0


def test_each_letter_is_drawn_by_a_font_that_has_it():
    text = fit("é", 20, 100)[0]
    assert drawn_width_px(text, 20) > 0
