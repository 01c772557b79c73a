"""A slide as ever smaller pictures cut into squares, each read from the file when it is looked at."""

import math
from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg

from .errors import SlideError
from .slide import Slide

_TOLERANCE = 1.01  # a level this much too coarse still serves, as for thumbnails
_SAME_PX = 1.5  # a level whose sides differ by less is of the size that is wanted
_MOST_READ_PX = 2048  # side of a region read at once; what is larger is put together from finer squares
_MOST_KEPT = 256  # squares of a picture that are put together but once; about 60 MB with all coarser ones
_QUALITY = 90


class DeepZoom:
    """The squares of a slide at 1, 1/2, 1/4, ... of its size, until one square holds all of it.

    The picture at `halvings` h is of ceil(side / 2^h) pixels; its square (column, row) begins at
    (column, row) x `SQUARE_PX` x 2^h level-0 pixels, and the last of a row or column is cut at the border.
    """

    SQUARE_PX = 256

    def __init__(self, slide: Slide) -> None:
        self.slide = slide
        self._kept: dict[tuple[int, int, int], np.ndarray] = {}
        self.most_halvings = max(0, math.ceil(math.log2(max(slide.size_px) / self.SQUARE_PX)))

    def size_px(self, halvings: int) -> tuple[int, int]:
        """Return (width, height) of the slide halved so often."""
        width, height = (-(-side // 2**halvings) for side in self.slide.size_px)
        return width, height

    def read(self, halvings: int, column: int, row: int) -> np.ndarray:
        """Return the pixels of a square, uint8 (h, w, 3).

        Where the file has a level of just this size they are its own; else they are averaged from the
        next finer one.

        Raises:
            SlideError: they cannot be read.
            ValueError: there is no such square.
        """
        left, top, width, height = self._place(halvings, column, row)
        level, scale, step = self._source(halvings)
        if self.SQUARE_PX * step > _MOST_READ_PX:
            return self._put_together(halvings, column, row, (width, height))
        level_px = (-(-side // scale) for side in self.slide.level_sizes_px[level])
        size = [
            max(1, min(math.ceil(n * step - 1e-6), side - round(start * step)))
            for n, side, start in zip((width, height), level_px, (left, top), strict=True)
        ]
        corner = (left * 2**halvings, top * 2**halvings)
        pixels = self._region(corner, level, scale, (size[0], size[1]))
        return _resized(pixels, (width, height))

    def jpeg(self, halvings: int, column: int, row: int) -> bytes:
        """Return a square as JPEG: the file's own bytes where they are of just this square.

        Raises:
            SlideError: it cannot be read.
            ValueError: there is no such square.
        """
        left, top, _, _ = self._place(halvings, column, row)
        level, scale, step = self._source(halvings)
        if scale == 1 and step == 1:
            corner = (left * 2**halvings, top * 2**halvings)
            stored = self.slide.compressed_tile(*corner, level, self.SQUARE_PX)
            if stored is not None:
                return stored
        pixels = np.ascontiguousarray(self.read(halvings, column, row))
        return simplejpeg.encode_jpeg(pixels, _QUALITY, colorspace="RGB", colorsubsampling="444")

    def _place(self, halvings: int, column: int, row: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of a square in the halved picture."""
        if 0 <= halvings <= self.most_halvings and min(column, row) >= 0:
            width, height = self.size_px(halvings)
            left, top = column * self.SQUARE_PX, row * self.SQUARE_PX
            if left < width and top < height:
                return left, top, min(self.SQUARE_PX, width - left), min(self.SQUARE_PX, height - top)
        raise ValueError(f"{self.slide.id}: no square ({column}, {row}) at 1/{2**halvings}")

    def _source(self, halvings: int) -> tuple[int, int, float]:
        """The level to read, at 1/scale, and how many of its pixels go on one of the square's."""
        wanted = 2**halvings * _TOLERANCE
        level = max(i for i, d in enumerate(self.slide.downsamples) if d <= wanted)
        scale = max(s for s in self.slide.scales if self.slide.downsamples[level] * s <= wanted or s == 1)
        sizes = zip(self.size_px(halvings), self.slide.level_sizes_px[level], strict=True)
        if all(abs(side - level_side / scale) < _SAME_PX for side, level_side in sizes):
            return level, scale, 1.0  # a side that 2 does not divide is rounded up here, down there
        return level, scale, 2**halvings / (self.slide.downsamples[level] * scale)

    def _region(
        self, corner: tuple[int, int], level: int, scale: int, size_px: tuple[int, int]
    ) -> np.ndarray:
        if scale == 1:
            return self.slide.read(*corner, level, size_px)
        out = np.empty((1, size_px[1], size_px[0], 3), np.uint8)
        if self.slide.read_batch(np.array([corner]), level, out, scale=scale).any():
            raise SlideError(
                f"{self.slide.id}: cannot be read at {corner}, level {level}",
                hint="copy the file again from its source; it is damaged or cut short",
            )
        return out[0]

    def _put_together(self, halvings: int, column: int, row: int, size_px: tuple[int, int]) -> np.ndarray:
        """Return what `_from_finer` does, kept where few squares make the picture: each reads all below."""
        place = halvings, column, row
        if place in self._kept:
            return self._kept[place]
        pixels = self._from_finer(*place, size_px)
        if math.prod(math.ceil(side / self.SQUARE_PX) for side in self.size_px(halvings)) <= _MOST_KEPT:
            pixels.flags.writeable = False
            self._kept[place] = pixels
        return pixels

    def _from_finer(self, halvings: int, column: int, row: int, size_px: tuple[int, int]) -> np.ndarray:
        """Put a square together from the up to four of twice its size: slow, but never large."""
        rows = [
            np.concatenate(list(self._pair(halvings - 1, 2 * column, below)), axis=1)
            for below in (2 * row, 2 * row + 1)
            if below * self.SQUARE_PX < self.size_px(halvings - 1)[1]
        ]
        return _resized(np.concatenate(rows), size_px)

    def _pair(self, halvings: int, column: int, row: int) -> Iterator[np.ndarray]:
        for beside in (column, column + 1):
            if beside * self.SQUARE_PX < self.size_px(halvings)[0]:
                yield self.read(halvings, beside, row)


def _resized(pixels: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    if pixels.shape[1::-1] == size_px:
        return pixels
    return cv2.resize(pixels, size_px, interpolation=cv2.INTER_AREA)
