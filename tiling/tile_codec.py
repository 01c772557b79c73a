"""Decoding one compressed tile of a TIFF: JPEG, and JPEG 2000 as Aperio writes it."""

import struct
from abc import ABC, abstractmethod

import cv2
import imagecodecs
import numpy as np
import simplejpeg


class UndecodableTile(Exception):
    """A tile that is missing or broken."""


class TileCodec(ABC):
    """How the tiles of a level become pixels; `scales` are those that it decodes to for less."""

    scales: tuple[int, ...] = (1,)

    @abstractmethod
    def decode(self, compressed: memoryview, out: np.ndarray, scale: int) -> None:
        """Decode a tile to 1/scale into `out`, contiguous uint8 (h, w, 3).

        Raises:
            UndecodableTile: it is damaged, or of another size than `out`.
        """

    def as_jpeg(self, compressed: memoryview) -> bytes | None:
        """Return the tile as a whole JPEG, not decoded; None if it is none."""
        return None


class JpegCodec(TileCodec):
    """JPEG with tables of its own or shared ones; `is_ycbcr` is whether its colours are transformed."""

    scales = (1, 2, 4, 8)  # the decoder leaves out the finest waves

    def __init__(self, tables: bytes, *, is_ycbcr: bool) -> None:
        self.tables, self.is_ycbcr = tables, is_ycbcr
        # without the Adobe marker decoders guess the colours, and Aperio's RGB tiles would turn green
        adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([is_ycbcr])
        self._head = b"\xff\xd8" + adobe + tables[2:-2]  # without their start and end of image

    def decode(self, compressed: memoryview, out: np.ndarray, scale: int) -> None:
        """Decode a tile, by way of libjpeg-turbo."""
        height, width = out.shape[:2]
        try:
            pixels = simplejpeg.decode_jpeg(
                self.as_jpeg(compressed),
                "RGB",
                min_width=width,
                min_height=height,
                min_factor=scale,
                buffer=out,
            )
        except ValueError as error:
            raise UndecodableTile from error
        if pixels.shape != out.shape:
            raise UndecodableTile

    def as_jpeg(self, compressed: memoryview) -> bytes:
        """Return the tile with the head that it needs, in place of its own start of image."""
        return b"".join((self._head, compressed[2:]))


class Jpeg2000Codec(TileCodec):
    """JPEG 2000 codestreams of three components; `is_ycbcr` is whether these are YCbCr.

    Fewer wavelet levels would cost less, but their pixels alias and lie off their place. So there is but
    one scale.
    """

    def __init__(self, *, is_ycbcr: bool) -> None:
        self._is_ycbcr = is_ycbcr

    def decode(self, compressed: memoryview, out: np.ndarray, scale: int) -> None:
        """Decode a tile, by way of OpenJPEG."""
        if _codestream_size(compressed) != (*out.shape[1::-1], 3):  # before memory is taken for it
            raise UndecodableTile
        try:
            imagecodecs.jpeg2k_decode(bytes(compressed), numthreads=1, out=out)
        except (RuntimeError, ValueError, TypeError, MemoryError) as error:  # its own is a RuntimeError
            raise UndecodableTile from error
        if self._is_ycbcr:
            _to_rgb(out)


def _codestream_size(compressed: memoryview) -> tuple[int, int, int]:
    """(width, height, components) that the first segment of a codestream states; zeros if it is none."""
    if len(compressed) < 42 or compressed[:4] != b"\xff\x4f\xff\x51":
        return 0, 0, 0
    right, bottom, left, top = struct.unpack_from(">4I", compressed, 8)
    return right - left, bottom - top, struct.unpack_from(">H", compressed, 40)[0]


# what the chroma add to each colour, rounded as OpenSlide rounds them; green's in 1/65536
_CHROMA = np.arange(256) - 128
_RED_OF_CR = np.round(1.402 * _CHROMA).astype(np.int16)
_BLUE_OF_CB = np.round(1.772 * _CHROMA).astype(np.int16)
_GREEN_OF_CB = np.round(65536 * (0.5 - 0.34414 * _CHROMA)).astype(np.int32)
_GREEN_OF_CR = np.round(65536 * -0.71414 * _CHROMA).astype(np.int32)


def _to_rgb(pixels: np.ndarray) -> None:
    """Turn YCbCr into RGB where it is."""
    y, cb, cr = cv2.split(pixels)
    green = cv2.LUT(cb, _GREEN_OF_CB)
    green += cv2.LUT(cr, _GREEN_OF_CR)
    green >>= 16
    shifts = (cv2.LUT(cr, _RED_OF_CR), green, cv2.LUT(cb, _BLUE_OF_CB))
    cv2.merge([cv2.add(y, shift, dtype=cv2.CV_8U) for shift in shifts], pixels)
