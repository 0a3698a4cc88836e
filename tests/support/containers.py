"""Reads the contents of an mp4, mov, mkv or webm byte by byte, without any library that may have written it."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta"}
_PICTURE_ENTRY = 78
"""Bytes of a picture's entry before the boxes in it."""
_SEGMENT, _TRACKS, _ENTRY, _VIDEO, _COLOUR = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x55B0
_CHAPTERS, _EDITION, _ATOM, _SHOWN = 0x1043A770, 0x45B9, 0xB6, 0x80
_MASTERS = {_SEGMENT, _TRACKS, _ENTRY, _VIDEO, _COLOUR, _CHAPTERS, _EDITION, _ATOM, _SHOWN}
_KINDS = {1: "video", 2: "audio", 17: "subtitle"}
_FLAGS = {
    0x55AA: "forced",
    0x55AB: "hearing impaired",
    0x55AC: "visual impaired",
    0x55AE: "original",
    0x55AF: "comment",
}


class Track(NamedTuple):
    """The container's entries about a track; None where it has none."""

    kind: str
    codec: str
    """The tag of an mp4, the CodecID of a Matroska."""
    language: str | int | None
    """A mov has numbers."""
    title: str | None
    marks: frozenset[str]
    size: tuple[int, int] | None = None
    aspect: tuple[int, int] | None = None
    colour: tuple[int, int, int] | None = None
    """Primaries, transfer, matrix."""
    full_range: bool | None = None
    turned: bool = False
    interlaced: bool = False


class Contents(NamedTuple):
    """Of a file."""

    tracks: list[Track]
    chapters: list[tuple[float, str]]
    """Seconds and title."""

    def only(self, kind: str) -> Track:
        """The track of this kind."""
        (found,) = [track for track in self.tracks if track.kind == kind]
        return found


def contents_of(path: Path) -> Contents:
    """Read a file; its first bytes tell the container."""
    data = path.read_bytes()
    return _matroska(data) if data.startswith(b"\x1a\x45\xdf\xa3") else _mp4(data)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, place + 8), 16
        size = size or len(data) - place
        yield name, data[place + head : place + size]
        place += max(size, 8)


def _tree(data: bytes) -> dict[bytes, list[Any]]:
    """Parse boxes of boxes into a tree: name → contents."""
    found: dict[bytes, list[Any]] = {}
    for name, inside in _boxes(data):
        found.setdefault(name, []).append(_tree(inside) if name in _PARENTS else inside)
    return found


def _mp4(data: bytes) -> Contents:
    moov = _tree(data)[b"moov"][0]
    tracks = [_mp4_track(trak, quicktime=data[8:12] == b"qt  ") for trak in moov[b"trak"]]
    chapters = []
    for chpl in moov.get(b"udta", [{}])[0].get(b"chpl", []):
        place = 9
        for _ in range(chpl[8]):
            start, length = struct.unpack_from(">QB", chpl, place)
            chapters.append((start / 1e7, chpl[place + 9 : place + 9 + length].decode()))
            place += 9 + length
    return Contents(tracks, chapters)


def _mp4_track(trak: dict[bytes, list[Any]], *, quicktime: bool) -> Track:
    tkhd, mdia = trak[b"tkhd"][0], trak[b"mdia"][0]
    handler = mdia[b"hdlr"][0][8:12]
    kind = {b"vide": "video", b"soun": "audio", b"sbtl": "subtitle", b"text": "subtitle"}.get(handler, handler.decode())
    mdhd = mdia[b"mdhd"][0]
    (packed,) = struct.unpack_from(">H", mdhd, 32 if mdhd[0] else 20)
    letters = "".join(chr(0x60 + (packed >> shift & 31)) for shift in (10, 5, 0))
    language: str | int | None = packed if quicktime else letters
    udta = trak.get(b"udta", [{}])[0]
    marks = {box[4:].split(b"\0")[1].decode() for box in udta.get(b"kind", [])}
    marks |= {"default"} if tkhd[3] & 1 else set()
    names = [box.rstrip(b"\0").decode() for box in udta.get(b"name", [])]
    entry = mdia[b"minf"][0][b"stbl"][0][b"stsd"][0][8:]
    codec = entry[4:8].decode()
    track = Track(kind, codec, language, names[0] if names else None, frozenset(marks))
    return _with_picture(track, tkhd, entry[8 + _PICTURE_ENTRY :], entry) if kind == "video" else track


def _with_picture(track: Track, tkhd: bytes, inside: bytes, entry: bytes) -> Track:
    boxes = dict(_boxes(inside))
    matrix = struct.unpack_from(">9i", tkhd, 52 if tkhd[0] else 40)
    colr, pasp = boxes.get(b"colr", b""), boxes.get(b"pasp")
    return track._replace(
        size=struct.unpack_from(">HH", entry, 8 + 24),
        aspect=struct.unpack(">II", pasp) if pasp else None,
        colour=struct.unpack_from(">HHH", colr, 4) if colr[:3] == b"ncl" else None,
        full_range=bool(colr[10] & 0x80) if colr[:4] == b"nclx" else None,
        turned=matrix != (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30),
        interlaced=boxes.get(b"fiel", b"\1")[0] > 1,
    )


def _number(data: bytes, place: int, *, marked: bool) -> tuple[int, int]:
    """Return a number of Matroska's, with or without its length mark, and where it ends."""
    length = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + length], "big")
    return (value if marked else value & ((1 << 7 * length) - 1)), place + length


def _elements(data: bytes) -> list[tuple[int, Any]]:
    """Parse elements of elements into a list of id and contents."""
    found, place = [], 0
    while place < len(data):
        name, place = _number(data, place, marked=True)
        size, place = _number(data, place, marked=False)
        inside = data[place : place + size]
        found.append((name, _elements(inside) if name in _MASTERS else inside))
        place += size
    return found


def _all(elements: list[tuple[int, Any]], *names: int) -> list[Any]:
    for name in names[:-1]:
        elements = [inner for found, inside in elements if found == name for inner in inside]
    return [inside for found, inside in elements if found == names[-1]]


def _value(elements: list[tuple[int, Any]], name: int, default: int) -> int:
    return next((int.from_bytes(inside, "big") for inside in _all(elements, name)), default)


def _text(elements: list[tuple[int, Any]], name: int) -> str | None:
    return next((inside.decode().rstrip("\0") for inside in _all(elements, name)), None)


def _matroska(data: bytes) -> Contents:
    whole = _elements(data)
    tracks = [_matroska_track(entry) for entry in _all(whole, _SEGMENT, _TRACKS, _ENTRY)]
    chapters = [
        (_value(atom, 0x91, 0) / 1e9, _text(_all(atom, _SHOWN)[0], 0x85) or "")
        for atom in _all(whole, _SEGMENT, _CHAPTERS, _EDITION, _ATOM)
    ]
    return Contents(tracks, chapters)


def _matroska_track(entry: list[tuple[int, Any]]) -> Track:
    marks = {word for name, word in _FLAGS.items() if _value(entry, name, 0)}
    marks |= {"default"} if _value(entry, 0x88, 1) else set()
    kind = _KINDS[_value(entry, 0x83, 0)]
    track = Track(kind, _text(entry, 0x86) or "", _text(entry, 0x22B59C), _text(entry, 0x536E), frozenset(marks))
    if kind != "video":
        return track
    (video,) = _all(entry, _VIDEO)
    size = _value(video, 0xB0, 0), _value(video, 0xBA, 0)
    shown = _value(video, 0x54B0, size[0]), _value(video, 0x54BA, size[1])
    colour = _all(video, _COLOUR)
    return track._replace(
        size=size,
        aspect=(shown[0] * size[1], shown[1] * size[0]) if shown != size else None,
        colour=(_value(colour[0], 0x55BB, 2), _value(colour[0], 0x55BA, 2), _value(colour[0], 0x55B1, 2))
        if colour
        else None,
        full_range=_value(colour[0], 0x55B9, 0) == 2 if colour else None,
        interlaced=_value(video, 0x9A, 0) == 1,
    )
