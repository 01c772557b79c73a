"""The panel beside an overlay: what is shown, on which scale, and how large it is."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .errors import ConfigError
from .lettering import can_draw, draw_line, fit

Colour = tuple[int, int, int]
_WIDTH_EM = 13.0
_INK, _FAINT, _PAPER = (28, 28, 30), (110, 110, 116), (255, 255, 255)
_TALLEST_EM = 48.0  # of all parts together
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_BAR_EM = (1.6, 10.0)
_SMALL_EM = 0.8
_LINE_STEP = 1.35  # from line to line, of the text's height


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What an overlay says of its heatmap.

    `class_name` is the class whose probability is painted. `threshold` is the probability from which a tile
    counts as positive: that of `class_name`, or with `is_threshold_of_all` that of all positive classes
    together, which the overlay is then given too. `prediction` is the slide's own (class name,
    probability), `smooth_um` the standard deviation by which the scores were smoothed, 0 if they were not.
    """

    class_name: str
    threshold: float | None = None
    is_threshold_of_all: bool = False
    prediction: tuple[str, float] | None = None
    smooth_um: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold:g}", hint="give a probability from 0 to 1")

    @property
    def threshold_text(self) -> str:
        """What holds of a framed tile."""
        return f"{'any class' if self.is_threshold_of_all else 'p'} at least {self.threshold:.3g}"


class Panel:
    """A column of parts drawn from top to bottom; lengths are in em, one `em_px` pixels of text size."""

    def __init__(self, em_px: float) -> None:
        self._em = em_px
        self.image = Image.new("RGB", (round(_WIDTH_EM * em_px), round(_TALLEST_EM * em_px)), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._y = 0.0

    def heading(self, label: str, text: str, *, size_em: float = 1.0, n_lines: int = 3) -> None:
        """Write a faint label and below it a text, shortened in the middle to `n_lines`."""
        for line in fit(label, 0.75 * self._em, self.image.width):
            self._line(line, 0.75, _FAINT)
        for line in fit(text, size_em * self._em, self.image.width, n_lines=n_lines):
            self._line(line, size_em, _INK)
        self._y += 0.85 * self._em

    def colour_bar(self, colours: np.ndarray, threshold: float | None) -> None:
        """Draw the scale from 0 to 1 with the threshold; `colours` uint8 (n, 3), that of 0 first."""
        em = self._em
        width, height = (round(side * em) for side in _BAR_EM)
        top = round(self._y + 0.4 * em)  # half of the uppermost label stands above the bar
        column = colours[::-1][np.arange(height) * len(colours) // height]
        self.image.paste(Image.fromarray(np.repeat(column[:, None], width, axis=1)), (0, top))
        self._draw.rectangle((0, top, width - 1, top + height - 1), outline=_FAINT)
        for tick in _TICKS:
            y = top + (1 - tick) * (height - 1)
            self._rule(width, width + 0.3 * em, y, max(1, round(em / 14)), _FAINT)
            self._text(width + 0.55 * em, y, f"{tick:g}")
        if threshold is not None:
            self._mark(threshold, top + (1 - threshold) * (height - 1), width)
        self._y = top + height + 1.2 * em

    def _mark(self, threshold: float, y: float, bar_px: int) -> None:
        """Draw the threshold across the bar, and its value beyond the labels of the ticks."""
        em = self._em
        self._rule(0, bar_px, y, max(2, round(em / 10)), _INK)
        tip, wing = bar_px + 2.7 * em, 0.25 * em
        self._draw.polygon([(tip, y), (tip + 0.4 * em, y - wing), (tip + 0.4 * em, y + wing)], _INK)
        self._text(tip + 0.65 * em, y, f"threshold {threshold:.3g}")

    def line_key(self, text: str, colour: Colour, width_px: int) -> None:
        """Draw a sample of a line and say what it stands for."""
        self._rule(0, _BAR_EM[0] * self._em, self._y + 0.55 * self._em, width_px, colour)
        self._key_text(text)

    def blank_key(self, text: str) -> None:
        """Draw an empty swatch and say what it stands for."""
        em = self._em
        box = (0, round(self._y + 0.2 * em), round(_BAR_EM[0] * em) - 1, round(self._y + 0.9 * em))
        self._draw.rectangle(box, outline=_FAINT)
        self._key_text(text)

    def end_with_scale(self, mpp: float, height_px: int) -> None:
        """Cut or stretch the panel to its parts, to `height_px` at least, and draw a bar of a round length.

        The bar stands at the panel's foot; `mpp` is µm per pixel of the picture it is for.
        """
        em, width = self._em, self.image.width
        height = max(height_px, round(self._y + 3.5 * em))
        panel = Image.new("RGB", (width, height), _PAPER)
        panel.paste(self.image, (0, 0))
        self.image, self._draw = panel, ImageDraw.Draw(panel)
        length_um = round_length_um(0.8 * width * mpp)
        right, foot = round(length_um / mpp) - 1, height - round(1.6 * em)
        line_px, tick_px = max(2, round(em / 9)), round(0.35 * em)
        self._draw.rectangle((0, foot - line_px + 1, right, foot), fill=_INK)
        for x in (0, right - line_px + 1):
            self._draw.rectangle((x, foot - tick_px, x + line_px - 1, foot), fill=_INK)
        self._text(0, height - 0.6 * em, length_text(length_um), 0.9)

    def _rule(self, left: float, right: float, y: float, width_px: int, colour: Colour) -> None:
        top = round(y - (width_px - 1) / 2)
        self._draw.rectangle((round(left), top, round(right) - 1, top + width_px - 1), fill=colour)

    def _line(self, text: str, size_em: float, colour: Colour) -> None:
        height = size_em * self._em
        draw_line(self._draw, (0, self._y + _LINE_STEP / 2 * height), text, height, colour)
        self._y += _LINE_STEP * height

    def _key_text(self, text: str) -> None:
        self._text((_BAR_EM[0] + 0.55) * self._em, self._y + 0.55 * self._em, text)
        self._y += 1.25 * self._em

    def _text(self, x: float, y: float, text: str, size_em: float = _SMALL_EM) -> None:
        height = size_em * self._em
        line = fit(text, height, self.image.width - x)[0]
        draw_line(self._draw, (x, y), line, height, _INK)


def heat_colours() -> np.ndarray:
    """Return the colours of the probabilities 0 to 1, uint8 (256, 3) RGB.

    They run from dark violet over green to yellow, ever brighter, which readers with any kind of colour
    vision can order.
    """
    levels = np.arange(256, dtype=np.uint8)
    return cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS).reshape(-1, 3)[:, ::-1]


def round_length_um(longest_um: float) -> float:
    """Return the longest of 1, 2 and 5 times a power of ten that is at most `longest_um`."""
    power = 10.0 ** np.floor(np.log10(longest_um))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest_um))


def length_text(length_um: float) -> str:
    """Return a length as it is read at the microscope: mm from one on, µm below."""
    if length_um >= 1000 or not can_draw("µ"):
        return f"{length_um / 1000:g} mm"
    return f"{length_um:g} µm"


def probability_text(probability: float, digits: int = 2) -> str:
    """Return "= 0.53", "< 0.01" or "> 0.99": 0.00 and 1.00 would claim certainty."""
    least = 10.0**-digits
    if probability < least / 2:
        return f"< {least:.{digits}f}"
    return f"> {1 - least:.{digits}f}" if probability >= 1 - least / 2 else f"= {probability:.{digits}f}"
