"""Finds what the structure of a picture or video file proves to be missing or wrong.

A library's error is no proof: it may not know a variant of the format, or be used wrongly. A picture counts as damaged
only if it lacks bytes that it refers to, or its checksums are wrong. For a video, the size that its container states is
compared with the file, which finds even a small cut at its end.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ...events.counted import plural
from ..contract import Unusable

_BLOCK = 1 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_GIF_END = b";"
_HEIF = (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
TIFF_BEGINNINGS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
"""The first bytes of a TIFF → its byte order, and whether it is a BigTIFF, which may exceed 4 GB."""
_PLACES, _LENGTHS = (273, 324), (279, 325)
"""Tags of a TIFF: the places of its strips or tiles, and their lengths."""
_WHOLE_NUMBERS = {3: "H", 4: "I", 16: "Q"}
_MOST_ENTRIES = 1_000_000


def unreadable(path: Path, reader: str, words: str) -> Unusable:
    """The error to raise when the library `reader` cannot read a picture and reports `words`."""
    if fault := fault_in(path):
        return Unusable(
            f"{path.name} is damaged: {fault}: get it anew, or save as png what another program shows of it, and take "
            "that"
        )
    return Unusable(
        f"{path.name} cannot be read by {reader} ({words}), and nothing proves that it is damaged: "
        "save it as png with the program it comes from, and take that"
    )


def fault_in(path: Path) -> str:
    """What the file's own structure proves to be missing or wrong; empty if it proves nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        look = _look_for(file.read(16))
        if look is None:
            return ""
        file.seek(0)
        try:
            return look(file, size)
        except struct.error:
            return f"it was cut in its header, after {size:,} bytes"


def is_picture(path: Path) -> bool:
    """Whether the file begins like one of the formats that are read."""
    with path.open("rb") as file:
        return _look_for(file.read(16)) is not None


def gif_is_whole(path: Path) -> bool:
    """Whether a gif has its end mark. A gif cut between two frames can be read, and only lacks the other frames."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2))
        if file.read(2) == b"\0" + _GIF_END:  # nearly all end like this, and hardly any that were cut
            return True
        return _gif_break(file) is None


def gif_break(path: Path) -> int | None:
    """The first byte of a gif that is invalid, or where it ends too early; None: it is whole."""
    with path.open("rb") as file:
        return _gif_break(file)


def _gif_break(file: BinaryIO) -> int | None:
    file.seek(10)
    _skip_colours(file, file.read(3)[:1])
    while mark := file.read(1):
        place = file.tell() - 1
        if mark == _GIF_END:
            return None
        if mark == b"\0":  # some programs use it as filling
            continue
        if mark not in b",!":
            return place
        if mark == b",":
            _skip_colours(file, file.read(9)[8:])
        file.read(1)  # the code size of its pixels, or the kind of extension
        while length := file.read(1)[:1].strip(b"\0"):
            file.seek(length[0], os.SEEK_CUR)
    return file.tell()


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 7) + 1), os.SEEK_CUR)


def exif_behind_pixels(file: BinaryIO) -> bytes:
    """The EXIF that some programs write after the pixels of a PNG; empty: none. Decodes nothing."""
    place, seen = file.tell(), False
    try:
        for kind, begin, length in png_chunks(file):
            seen = seen or kind == b"IDAT"
            if kind == b"eXIf" and seen:
                file.seek(begin)
                return b"Exif\0\0" + file.read(length)
    finally:
        file.seek(place)
    return b""


def _look_for(head: bytes) -> Callable[[BinaryIO, int], str] | None:
    if head.startswith(_PNG):
        return _fault_in_png
    if head.startswith(_JPEG):
        return _fault_in_jpeg
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _fault_in_gif
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _fault_in_webp
    if head.startswith(b"BM"):
        return _fault_in_bmp
    if head[:4] in TIFF_BEGINNINGS:
        return _fault_in_tiff
    return _fault_in_boxes if head[4:8] == b"ftyp" and head[8:12] in _HEIF else None


def _lacking(needed: int, size: int) -> str:
    return f"it was cut: {size:,} of at least {needed:,} bytes are there" if needed > size else ""


def are_missing(count: int) -> str:
    """Say that `count` bytes, from `lacking_bytes`, are missing."""
    return f"at least {count:,} {plural(count, 'byte is', 'bytes are')} missing"


def png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of each chunk of a PNG, as far as they go."""
    place = len(_PNG)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:  # noqa: PLR2004 - length and kind
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, place + 8, length
        place += 12 + length


def _fault_in_png(file: BinaryIO, size: int) -> str:
    unpacker = zlib.decompressobj()
    for kind, begin, length in png_chunks(file):
        if begin + length + 4 > size:
            return _lacking(begin + length + 4, size)
        if kind[:1].islower():  # an optional part
            continue
        file.seek(begin)
        checksum, left = zlib.crc32(kind), length
        while left:
            block = file.read(min(left, _BLOCK))
            checksum, left = zlib.crc32(block, checksum), left - len(block)
            if kind == b"IDAT" and not _unpacks(unpacker, block):
                return "its pixels are packed in an invalid way"
        if file.read(4) != checksum.to_bytes(4, "big"):
            return f"the checksum of its part {kind.decode('latin-1')!r} at byte {begin:,} is wrong"
        if kind == b"IEND":
            return "" if unpacker.eof else "the end of its pixels is missing"
    return f"it was cut: it ends after {size:,} bytes without its end mark"


def _unpacks(unpacker: "zlib._Decompress", block: bytes) -> bool:
    try:
        while block:
            unpacker.decompress(block, _BLOCK)
            block = unpacker.unconsumed_tail
    except zlib.error:
        return False
    return True


def _fault_in_jpeg(file: BinaryIO, size: int) -> str:
    content, place = file.read(), 2
    while place < size:
        if content[place] != 0xFF:  # noqa: PLR2004 - how a marker begins
            return f"at byte {place:,} a part should begin, and none does"
        mark = content[place + 1] if place + 1 < size else 0
        if mark == 0xD9:  # noqa: PLR2004 - the end
            return ""
        if mark == 0xFF or 0xD0 <= mark <= 0xD7:  # noqa: PLR2004 - filling, and marks within the pixels
            place += 1 if mark == 0xFF else 2  # noqa: PLR2004
            continue
        if place + 4 > size:
            break
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if end > size:
            return _lacking(end, size)
        place = behind_scan(content, end) if mark == 0xDA else end  # noqa: PLR2004 - pixels follow
    return f"it was cut: it ends after {size:,} bytes without its end mark"


def behind_scan(content: bytes, place: int) -> int:
    """The place of the next part after the pixels; the end of the file if there is none."""
    while (place := content.find(b"\xff", place)) >= 0 and place + 1 < len(content):
        if content[place + 1] and not 0xD0 <= content[place + 1] <= 0xD7:  # noqa: PLR2004 - marks within the pixels
            return place
        place += 2
    return len(content)


def _fault_in_gif(file: BinaryIO, size: int) -> str:
    return "" if gif_is_whole(Path(file.name)) else f"it was cut: it ends after {size:,} bytes without its end mark"


def _fault_in_webp(file: BinaryIO, size: int) -> str:
    return _lacking(8 + struct.unpack("<I", file.read(8)[4:])[0], size)


def _fault_in_bmp(file: BinaryIO, size: int) -> str:
    head = file.read(34)
    begin, length = struct.unpack_from("<II", head, 10)
    if length == 12:  # noqa: PLR2004 - the oldest form
        width, height, bits, packed = *struct.unpack_from("<HH", head, 18), struct.unpack_from("<H", head, 24)[0], 0
    else:
        width, height = struct.unpack_from("<ii", head, 18)
        bits, packed = struct.unpack_from("<HI", head, 28)
    if packed not in (0, 3, 6):  # the length of the others is not known beforehand
        return ""
    return _lacking(begin + (width * bits + 31) // 32 * 4 * abs(height), size)


def _fault_in_tiff(file: BinaryIO, size: int) -> str:
    head = file.read(16)
    order, big = TIFF_BEGINNINGS[head[:4]]
    place = struct.unpack_from(order + "Q", head, 8)[0] if big else struct.unpack_from(order + "I", head, 4)[0]
    if place + 2 > size:
        return _lacking(place + 2, size)
    file.seek(place)
    (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
    entries = file.read(min(count, _MOST_ENTRIES) * (20 if big else 12))
    tags = {}
    for start in range(0, len(entries) - (19 if big else 11), 20 if big else 12):
        tag, kind, many = struct.unpack_from(order + ("HHQ" if big else "HHI"), entries, start)
        if tag in (*_PLACES, *_LENGTHS) and kind in _WHOLE_NUMBERS:
            value = entries[start + (12 if big else 8) : start + (20 if big else 12)]
            tags[tag] = _numbers(file, order + f"{min(many, _MOST_ENTRIES)}{_WHOLE_NUMBERS[kind]}", value, big=big)
    for places, lengths in zip(_PLACES, _LENGTHS, strict=True):
        if places in tags and lengths in tags:
            ends = (begin + length for begin, length in zip(tags[places], tags[lengths], strict=False))
            return _lacking(max(ends, default=0), size)
    return ""


def _numbers(file: BinaryIO, form: str, value: bytes, *, big: bool) -> tuple[int, ...]:
    """The numbers of an entry: stored in it, or where it points. Raises struct.error if the file ends before."""
    length = struct.calcsize(form)
    if length > len(value):
        file.seek(struct.unpack(form[0] + ("Q" if big else "I"), value)[0])
        value = file.read(length)
    return struct.unpack_from(form, value)


def _fault_in_boxes(file: BinaryIO, size: int) -> str:
    """Find faults in avif and heic."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(16)
        (length,) = struct.unpack_from(">I", head)
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, 8)
        if length == 0:  # up to the end, wherever that is
            return ""
        if length < 8 or place + length > size:  # noqa: PLR2004 - its own head
            return _lacking(place + length, size) or f"its part at byte {place:,} is invalid"
        place += length
    return ""


# --- Videos ---


_MOST_BOXES = 100_000
_BOX, _LARGE_BOX = 8, 16
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_UNFINISHED = (0, 0xFFFFFFFF)
"""The size in a RIFF whose recorder was switched off."""
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_DV_BEGINNINGS = {b"\x1f\x07\0\x3f": 120_000, b"\x1f\x07\0\xbf": 144_000}
"""The first bytes of a DV of NTSC and of PAL → bytes of which each frame has a multiple."""
_LIVE = 1 << 63
"""From this value on, the size of a live recording's data is meaningless."""


def lacking_bytes(path: Path) -> int:
    """Bytes missing at the end, by what the container states; also 0 if it states nothing.

    The sizes come from the boxes of mp4 and mov, the segment of mkv and webm, the RIFF of avi, and the header and data
    of wmv (a cut index after these costs nothing). A gif only shows whether anything is missing, a dv how much its last
    frame lacks at least.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(len(_ASF_HEADER))
        if head.startswith(_EBML):
            end = _matroska_end(file)
        elif head.startswith(b"RIFF"):
            end = _riff_end(file, size)
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            end = _boxes_end(file, size)
        elif head == _ASF_HEADER:
            end = _asf_end(file, size)
        elif head.startswith(b"GIF8"):
            end = size + (not gif_is_whole(path))
        elif head[:4] in _DV_BEGINNINGS:
            end = size + -size % _DV_BEGINNINGS[head[:4]]
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
            break  # something else has been appended
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


def _asf_end(file: BinaryIO, size: int) -> int:
    """The end by the objects' headers: 16 bytes for the name, 8 for the size, which includes them."""
    header = int.from_bytes(file.read(8), "little")
    if header > size:
        return 0
    file.seek(header)
    if file.read(len(_ASF_DATA)) != _ASF_DATA:
        return 0
    data = int.from_bytes(file.read(8), "little")
    return header + data if data < _LIVE else 0


def _number(file: BinaryIO) -> int | None:
    """A size in Matroska's form: the leading zero bits give the number of bytes. None: unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - more)) - 1)]) + file.read(more), "big")
    return None if value == (1 << (7 * (more + 1))) - 1 else value


def _riff_end(file: BinaryIO, size: int) -> int:
    """The end of the last RIFF: a file of more than about a gigabyte has several, one after the other."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(_BOX)
        length = int.from_bytes(head[4:], "little")
        if not head.startswith(b"RIFF") or length in _UNFINISHED:
            break
        place += _BOX + length + length % 2
    return place
