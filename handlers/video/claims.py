"""How long a video's file says that it is. Less may be cut from its end than its picture would miss."""

from pathlib import Path
from typing import BinaryIO

from ..image.wholeness import gif_is_whole

_MOST_BOXES = 100_000
_BOX, _LARGE_BOX = 8, 16
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_UNFINISHED = (0, 0xFFFFFFFF)
"""What a recorder that was switched off leaves as the size of a RIFF."""


def lacking_bytes(path: Path) -> int:
    """Bytes at the end that the container speaks of and that are not there; 0 also where it does not say.

    mp4 and mov tell it by their boxes, mkv and webm by the size of their segment, avi by that of its RIFF; a gif tells
    only that there should be more.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head.startswith(_EBML):
            end = _matroska_end(file)
        elif head.startswith(b"RIFF"):
            end = _riff_end(file, size)
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            end = _boxes_end(file, size)
        elif head.startswith(b"GIF8"):
            end = size + (not gif_is_whole(path))
        else:
            end = 0
    return max(0, end - size)


def _boxes_end(file: BinaryIO, size: int) -> int:
    place = 0
    for _ in range(_MOST_BOXES):
        if place >= size:
            break
        file.seek(place)
        head = file.read(_LARGE_BOX)
        if not head[4:8].isalnum():
            break  # something else has been added behind
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < _BOX:
            break  # 0: up to the end, wherever that is
        place += length
    return place


def _matroska_end(file: BinaryIO) -> int:
    file.seek(len(_EBML))
    head = _number(file)
    if head is None:
        return 0
    file.seek(head, 1)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    length = _number(file)
    return 0 if length is None else file.tell() + length


def _number(file: BinaryIO) -> int | None:
    """A size as Matroska writes it: the leading zero bits tell the number of bytes. None: unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - more)) - 1)]) + file.read(more), "big")
    return None if value == (1 << (7 * (more + 1))) - 1 else value


def _riff_end(file: BinaryIO, size: int) -> int:
    """Beyond a gigabyte or so there are several, one after the other."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(_BOX)
        length = int.from_bytes(head[4:], "little")
        if not head.startswith(b"RIFF") or length in _UNFINISHED:
            break
        place += _BOX + length + length % 2
    return place
