"""The display times of an mp4's or mov's keyframes: FFmpeg's index has only their decoding times."""

import struct
from collections.abc import Iterable, Iterator
from heapq import merge
from pathlib import Path
from typing import BinaryIO

_BOX = struct.Struct(">I4s")
_LARGE = struct.Struct(">Q")
_LARGEST_TABLE = 64 * 2**20
"""Bytes: enough for days of film, at eight per frame."""
_MOST_BOXES = 20_000
"""Boxes of a file that are read at most: a file may consist of nothing else."""


def keyframe_leads(path: Path, track: int) -> list[int]:
    """How far each keyframe is decoded before it is shown, in units of the track's clock.

    With open groups of pictures this differs between keyframes. Empty if the file's tables do not say.

    Args:
        path: an mp4 or mov.
        track: the number of the track in it.
    """
    with path.open("rb") as file:
        *keyframes, offsets = _Boxes(file).tables(track)
    return _leads(merge(*map(_numbers, keyframes)), offsets) if offsets else []


def _numbers(table: bytes) -> Iterator[int]:
    return (number for (number,) in struct.iter_unpack(">I", table))


def _leads(numbers: Iterable[int], offsets: bytes) -> list[int]:
    """The leads of the samples with these numbers (rising from 1), by a table of pairs: number of samples, lead.

    The table is read along with the numbers: a long film has millions of entries, and a list would take 20 times as
    much.
    """
    runs = struct.iter_unpack(">Ii", offsets)
    leads: list[int] = []
    before = end = lead = 0
    for number in numbers:
        if number <= before:
            return []
        while end < number:
            run = next(runs, None)
            if run is None:
                return []
            end, lead = end + run[0], run[1]
        leads.append(lead)
        before = number
    return leads


class _Boxes:
    """The boxes of a file, each with a size, a kind and a content, which may be boxes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _MOST_BOXES

    def tables(self, track: int) -> tuple[bytes, bytes, bytes]:
        """The entries of a track's `stss` and `stps`, its keyframes, and of `ctts`, the leads of its samples.

        In `stps` QuickTime lists the keyframes of MPEG-2's open groups. Missing tables have no entries.
        """
        for trak in self._inside(range(self._file.seek(0, 2)), b"moov", b"trak"):
            if track in map(self._track, self._inside(trak, b"tkhd")):
                for stbl in self._inside(trak, b"mdia", b"minf", b"stbl"):
                    closed, opened = self._entries(stbl, b"stss", 4), self._entries(stbl, b"stps", 4)
                    return closed, opened, self._entries(stbl, b"ctts", 8)
        return b"", b"", b""

    def _track(self, tkhd: range) -> int:
        """The number of a track by its header, which has longer times in version 1."""
        head = self._read(tkhd.start, 24)
        at = 20 if head[:1] == b"\1" else 12
        return int.from_bytes(head[at : at + 4])

    def _entries(self, stbl: range, kind: bytes, size: int) -> bytes:
        for table in self._inside(stbl, kind):
            entries = int.from_bytes(self._read(table.start + 4, 4)) * size
            found = self._read(table.start + 8, min(entries, len(table), _LARGEST_TABLE))
            return found if len(found) == entries else b""
        return b""

    def _inside(self, whole: range, *kinds: bytes) -> Iterator[range]:
        """The contents' ranges of all boxes of the last kind, nested in those of the kinds before, within `whole`."""
        kind, *rest = kinds
        at = whole.start
        while at + _BOX.size <= whole.stop and self._left:
            self._left -= 1
            head = self._read(at, _BOX.size + _LARGE.size).ljust(_BOX.size + _LARGE.size, b"\0")
            size, name = _BOX.unpack_from(head)
            begin = at + _BOX.size
            if size == 1:
                (size,), begin = _LARGE.unpack_from(head, _BOX.size), begin + _LARGE.size
            end = at + size if size else whole.stop
            if not begin <= end <= whole.stop:
                return
            if name == kind:
                yield from self._inside(range(begin, end), *rest) if rest else [range(begin, end)]
            at = end

    def _read(self, place: int, size: int) -> bytes:
        self._file.seek(place)
        return self._file.read(size)
