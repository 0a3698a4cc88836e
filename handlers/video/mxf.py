"""Whether an MXF has the index of its pictures: without it, FFmpeg guesses where in the file a moment is.

Parts of the index are in any of the partitions. FFmpeg goes through them from the last (the footer) back to the first,
and stops where one cannot be read. A file that was cut, or whose recording was never ended, has no footer.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

_PACK = bytes.fromhex("060e2b34020501010d01020101")
"""The first bytes of the key of a partition and of the list of partitions; the next byte tells what it is."""
_HEADER, _BODY, _FOOTER, _LIST = 2, 3, 4, 17
_KEY, _LONGEST_LENGTH, _LONG_FORM = 16, 9, 0x80
_FIELDS = struct.Struct(">16xQQ8xQ")
_RUN_IN = 65_536
"""Bytes that may come before the first partition, at most. All places are counted from there."""


class _Partition(NamedTuple):
    kind: int
    previous: int
    footer: int
    """0: not known."""
    indexed: int
    """Bytes of index."""


def has_index(path: Path) -> bool:
    """Whether all partitions of an MXF are there, from the first to the footer, and hold an index."""
    with path.open("rb") as file:
        begin = file.read(_RUN_IN + _KEY).find(_PACK + bytes([_HEADER]))
        header = _partition(file, begin) if begin >= 0 else None
        if header is None:
            return False
        place = _listed_footer(file) or header.footer
        partition = _partition(file, begin + place)
        if partition is None or partition.kind != _FOOTER:
            return False
        indexed = header.indexed
        while place:
            indexed += partition.indexed
            before = _partition(file, begin + partition.previous) if partition.previous < place else None
            if before is None:
                return False
            place, partition = partition.previous, before
        return indexed > 0


def _partition(file: BinaryIO, place: int) -> _Partition | None:
    """The partition at this byte; None if there is none."""
    if place >= file.seek(0, os.SEEK_END):
        return None
    file.seek(place)
    head = file.read(_KEY + _LONGEST_LENGTH + _FIELDS.size)
    if not head.startswith(_PACK) or len(head) < _KEY + _LONGEST_LENGTH + _FIELDS.size:
        return None
    kind, length = head[len(_PACK)], head[_KEY]
    if kind not in (_HEADER, _BODY, _FOOTER):
        return None
    begin = _KEY + 1 + (length - _LONG_FORM if length >= _LONG_FORM else 0)
    return _Partition(kind, *_FIELDS.unpack_from(head, begin)) if begin <= _KEY + _LONGEST_LENGTH else None


def _listed_footer(file: BinaryIO) -> int:
    """The footer's place, by the list at the end of the file; 0 if there is no list."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    if not _KEY <= length <= size:
        return 0
    file.seek(size - length)
    content = file.read(_KEY)
    if not content.startswith(_PACK + bytes([_LIST])):
        return 0
    file.seek(size - 12)
    return int.from_bytes(file.read(8), "big")
