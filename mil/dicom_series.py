"""The series that a DICOM file belongs to, read from its head alone: the files of one slide share it."""

import struct
from pathlib import Path
from typing import BinaryIO

_SERIES = (0x0020, 0x000E)  # SeriesInstanceUID
_SYNTAX = (0x0002, 0x0010)  # TransferSyntaxUID
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_IMPLICIT = "1.2.840.10008.1.2"
_UNREADABLE = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})  # deflated, big-endian
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_UNDEFINED = 0xFFFFFFFF


def series_of(path: Path) -> str | None:
    """Return the SeriesInstanceUID of a DICOM file, None where there is none to be read."""
    try:
        with path.open("rb") as file:
            file.seek(128)
            return _series(file) if file.read(4) == b"DICM" else None
    except (OSError, EOFError, struct.error):
        return None


def _series(file: BinaryIO) -> str | None:
    syntax = ""
    while True:
        start = file.tell()
        group, _ = tag = _tag(file)
        if group != 2 and syntax in _UNREADABLE:
            return None
        file.seek(start)
        tag, length = _header(file, is_implicit=group != 2 and syntax == _IMPLICIT)
        if tag > _SERIES:
            return None
        if tag in (_SERIES, _SYNTAX):
            value = file.read(length).rstrip(b"\0 ").decode("ascii", "replace")
            if tag == _SERIES:
                return value
            syntax = value
        else:
            _skip(file, length, is_implicit=syntax == _IMPLICIT)


def _tag(file: BinaryIO) -> tuple[int, int]:
    group, element = struct.unpack("<HH", file.read(4))
    return group, element


def _header(file: BinaryIO, *, is_implicit: bool) -> tuple[tuple[int, int], int]:
    """The tag of the next element and the length of its value in bytes."""
    tag = _tag(file)
    if is_implicit or tag[0] == _ITEM[0]:
        return tag, struct.unpack("<I", file.read(4))[0]
    kind = file.read(2)
    if kind in _LONG:
        file.seek(2, 1)
        return tag, struct.unpack("<I", file.read(4))[0]
    return tag, struct.unpack("<H", file.read(2))[0]


def _skip(file: BinaryIO, length: int, *, is_implicit: bool) -> None:
    """Go past a value; one of undefined length is a sequence, whose items may hold sequences again."""
    if length != _UNDEFINED:
        file.seek(length, 1)
        return
    depth = 1
    while depth:
        tag, length = _header(file, is_implicit=is_implicit)
        if tag in (_ITEM_END, _SEQUENCE_END):
            depth -= 1
        elif length == _UNDEFINED:
            depth += 1
        else:
            file.seek(length, 1)
