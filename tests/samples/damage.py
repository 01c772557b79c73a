"""Damage done to slide files: to bytes anywhere, and to what steers a decoder: tags, lengths, tables."""

import io
import re
import struct
import zlib

import numpy as np
import tifffile

_EXTREMES = (0, 1, 2, 3, 127, 255, 256, 65535, 65536, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_JPEG = re.compile(rb"\xff[\xc0-\xc4\xda\xdb\xdd\xee\x4f\x51\x52\x5c\x64\x90]")
_NUMBER = re.compile(rb"(?<=[\x20-\x7e]{4})\d[\d.]*(?=[\x20-\x7e])")
_DICOM = re.compile(rb"(?:UI|US|UL|DS|IS|CS|SQ|OB|OW|LO|FD|FL)(?=.\x00|\x00\x00)", re.DOTALL)


def damaged(content, draw):
    """Return `content` with one to three kinds of damage, drawn."""
    found = bytearray(content)
    for _ in range(int(draw.integers(1, 4))):
        kinds = [k for k in _KINDS if k is not _tag or found[:2] in (b"II", b"MM")]
        found = kinds[int(draw.integers(len(kinds)))](found, draw) or found
    return bytes(found)


def _cut(found, draw):
    return found[: int(draw.integers(len(found)))] if draw.integers(3) == 0 else None


def _bytes(found, draw):
    reach = len(found) if draw.integers(2) else min(len(found), 2000)
    for place in draw.integers(reach, size=int(draw.integers(1, 20))):
        found[place if draw.integers(2) else len(found) - 1 - place] = draw.integers(256)


def _run(found, draw):
    start = int(draw.integers(len(found)))
    stop = min(len(found), start + int(draw.integers(1, 5000)))
    found[start:stop] = draw.integers(256, size=stop - start, dtype=np.uint8).tobytes()


def _tag(found, draw):
    """Another type, count or value of an entry of a TIFF's directory, or of one of its far values."""
    try:
        with tifffile.TiffFile(io.BytesIO(found)) as file:
            tags = [t for p in file.pages if isinstance(p, tifffile.TiffPage) for t in p.tags]
            order, wide = file.byteorder, file.is_bigtiff
    except Exception:  # noqa: BLE001  damaged already
        return
    if not tags:
        return
    tag = tags[int(draw.integers(len(tags)))]
    size = 8 if wide else 4
    part = int(draw.integers(5))
    if part == 0:
        _put(found, tag.offset + 2, struct.pack(order + "H", int(draw.integers(20))))
    elif part == 1:
        _put(found, tag.offset + 4, _extreme(found, draw).to_bytes(size, _end(order)))
    elif part < 4:
        _put(found, tag.offset + 4 + size, _extreme(found, draw).to_bytes(size, _end(order)))
    else:
        place = tag.valueoffset + size * int(draw.integers(max(1, min(tag.valuebytecount, 1 << 16) // size)))
        _put(found, place, _extreme(found, draw).to_bytes(size, _end(order)))


def _end(order):
    return "little" if order == "<" else "big"


def _extreme(found, draw):
    kind = int(draw.integers(3))
    if kind == 0:
        return int(draw.integers(len(found) + 100))
    return int(draw.integers(70000)) if kind == 1 else _EXTREMES[int(draw.integers(len(_EXTREMES)))]


def _put(found, place, value):
    if place >= 0 and place + len(value) <= len(found):
        found[place : place + len(value)] = value


def _table(found, draw):
    """A byte of a JPEG's tables, or of its sizes."""
    places = [m.start() for m in _JPEG.finditer(found)]
    if places:
        place = places[int(draw.integers(min(len(places), 1000)))] + 2 + int(draw.integers(24))
        _put(found, place, bytes([int(draw.integers(256))]))


def _number(found, draw):
    """A number in a text: XML, JSON, a vendor's description, a DICOM decimal."""
    places = [m.span() for m in _NUMBER.finditer(found, 0, 200_000)]
    if places:
        start, stop = places[int(draw.integers(len(places)))]
        if draw.integers(3):
            for place in range(start, stop):
                found[place] = b"0123456789.-eE "[int(draw.integers(15))]
        else:
            found[start:stop] = (b"9" * (stop - start), b"0" * (stop - start))[int(draw.integers(2))]


def _length(found, draw):
    """The length or the value of a DICOM element."""
    places = [m.start() for m in _DICOM.finditer(found, 0, 200_000)]
    if places:
        place = places[int(draw.integers(len(places)))] + 2 * int(draw.integers(1, 4))
        size = (2, 4)[int(draw.integers(2))]
        _put(found, place, (_extreme(found, draw) % 256**size).to_bytes(size, "little"))


def _chunk(found, draw):
    """A byte of a PNG's chunk, whose checksum is made right again."""
    if found[:4] != b"\x89PNG":
        return
    start, starts = 8, []
    while start + 12 <= len(found):
        starts.append(start)
        start += 12 + struct.unpack(">I", found[start : start + 4])[0]
    start = starts[int(draw.integers(len(starts)))]
    (length,) = struct.unpack(">I", found[start : start + 4])
    if length and start + 12 + length <= len(found):
        found[start + 8 + int(draw.integers(min(length, 20)))] = draw.integers(256)
        crc = zlib.crc32(bytes(found[start + 4 : start + 8 + length]))
        found[start + 8 + length : start + 12 + length] = struct.pack(">I", crc)


_KINDS = (_cut, _bytes, _run, _tag, _tag, _tag, _table, _number, _length, _chunk)
