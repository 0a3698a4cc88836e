"""Lists the parts of a picture's file that a conversion does not carry over.

The lists below name the parts that are carried over, that only describe how the file stores its pixels, or that say
nothing about the picture. Any other part counts as lost, since the next camera may write anything.
"""

import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

from ....events.counted import plural
from ...media.damage import TIFF_BEGINNINGS, behind_scan, png_chunks
from .metadata import TELLING

_MOST = 20
"""Parts that are listed at most."""
_MOST_PAGES = 10_000
_MOST_READ = 1 << 24
"""Bytes of one part that are read at most."""
_PADDING = b"\0\r\n "
_XMP_IN_JPEG, _MORE_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/"
_SEGMENTS = (
    *((0xE0, start) for start in (b"JFIF\0", b"JFXX\0")),
    *((0xE1, start) for start in (b"Exif\0", _XMP_IN_JPEG)),
    *((0xE2, start) for start in (b"ICC_PROFILE\0", b"MPF\0")),  # MPF: further pictures, which stand after the first
    *((0xEC, b"Ducky"), (0xED, b"Photoshop 3.0\0"), (0xEE, b"Adobe")),
)
"""Marks of known segments of a JPEG, and the first bytes of these segments."""
_STORES = range(0xC0, 0xE0)
"""Marks of the segments without which a JPEG cannot be decoded."""
_COMMENT, _SCAN, _END = 0xFE, 0xDA, 0xD9
_ONLY_XMP_SAYS = (
    (re.compile(rb"hdrgm:|HDRGainMap"), "the gain map for bright screens"),
    (re.compile(rb"MotionPhoto|MicroVideo"), "the film of a motion photo"),
    (re.compile(rb"GDepth:|GImage:"), "what the camera has measured beside the picture"),
)
_IPTC = 0x0404
_BLOCKS = frozenset(
    (
        *(0x03E9, 0x03EA, 0x03ED, 0x03F3, 0x03F5, 0x03F8, 0x0426, 0x043A, 0x043B, 0x2710),  # how it is printed
        *(0x0408, 0x040D, 0x0414, 0x0419, 0x041A, 0x041E, 0x0421, 0x0428, 0x0433, 0x0434, 0x0435),  # the program's own
        *(0x0406, 0x040A, 0x0411, 0x040C, 0x0409, 0x0425),  # quality, marks, small previews, the checksum of IPTC
        *(0x040F, 0x0422, 0x0423, 0x0424),  # profile, EXIF and XMP once more
    )
)
"""Photoshop's resources that say nothing about the picture, or repeat what stands elsewhere."""
_CHUNKS = frozenset(
    (
        *("IHDR", "PLTE", "IDAT", "IEND", "tRNS", "acTL", "fcTL", "fdAT"),
        *("iCCP", "sRGB", "eXIf", "tEXt", "zTXt", "iTXt", "pHYs"),
        *("tIME", "bKGD", "sBIT", "hIST", "iDOT", "vpAg", "orNT"),
    )
)
_COLOURS_OF_A_PNG = {"gAMA": (45_455,), "cHRM": (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)}
"""Chunks that define the colours, with their values for sRGB, which applies without them."""
_PARTS_OF_A_WEBP = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "))
_PROGRAMS_OF_A_GIF = frozenset((b"NETSCAPE2.0", b"ANIMEXTS1.0", b"XMP DataXMP", b"ICCRGBG1012", b"ImageMagick"))
_CONTROL, _COMMENTS, _PROGRAM = 0xF9, 0xFE, 0xFF
_XMP_IN_TIFF, _IPTC_IN_TIFF, _PHOTOSHOP_IN_TIFF = 700, 33_723, 34_377
_LAYERS, _FILLING = 37_724, 59_932
_TAGS = frozenset(
    (
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284),
        *(290, 291, 292, 293, 296, 297, 317, 320, 321, 322, 323, 324, 325, 326, 327, 328, 332, 334, 338, 339, 340, 341),
        *(347, *range(512, 522), 529, 530, 531, 532, 34_675),
        *TELLING,
        *(_XMP_IN_TIFF, _IPTC_IN_TIFF, _PHOTOSHOP_IN_TIFF, _FILLING),
    )
)
_BITS, _COLOURS, _SAMPLES = 258, 262, 338
_INKS = 5
_ONLY_FIRST = frozenset((*TELLING, _XMP_IN_TIFF, _IPTC_IN_TIFF))
"""Tags that are carried over only from the first page."""
_ITEMS = frozenset((b"av01", b"hvc1", b"grid", b"iden", b"Exif", b"mime"))
_BOXES = frozenset((b"ftyp", b"meta", b"mdat", b"free", b"skip", b"moov", b"wide"))
_PROPERTIES = frozenset(
    (
        *(b"ispe", b"pixi", b"colr", b"hvcC", b"av1C", b"irot", b"imir", b"clap", b"pasp", b"auxC"),
        *(b"lsel", b"a1op", b"a1lx"),
    )
)
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_USUAL_COLOURS, _USUAL_CURVES = (1, 2, 5, 6), (1, 2, 6, 13, 14, 15)
_EMBEDDED_PROFILE = b"DEBM"
_PLACE_IN_BIG = 8
"""Bytes of an offset in a BigTIFF."""

_Entry: TypeAlias = tuple[int, int, bytes]
"""A tag's type, the number of its values, and the values or their place."""


class Unkept(msgspec.Struct, frozen=True):
    """A part of the file that is not carried over."""

    words: str
    says: bool = False
    """Whether it only describes the picture, so that `metadata=strip` asks to leave it out."""
    behind: bool = False
    """Whether it stands after the end of the picture."""
    further: bool = False
    """Whether it belongs to a page after the first."""


def unkept_in(path: Path, kind: str, *, pages: bool) -> list[Unkept]:
    """The first parts of the file that are not carried over, each once.

    Args:
        path: the input, which has been read as a picture.
        kind: Pillow's name of its format.
        pages: whether all pages of a TIFF are converted, not only the first.
    """
    found: list[Unkept] = []
    with path.open("rb") as file, suppress(struct.error, IndexError, KeyError):  # the file ends too early
        for one in _LOOKS[kind](file):
            if one not in found and (pages or not one.further):
                found.append(one)
            if len(found) == _MOST:
                break
    return found


def _read(file: BinaryIO, place: int, length: int) -> bytes:
    """The bytes there, as far as they exist: a file may claim more than fits into memory."""
    rest = os.fstat(file.fileno()).st_size - place
    if rest < 0:
        raise IndexError
    file.seek(place)
    return file.read(min(length, rest, _MOST_READ))


def _behind(rest: bytes) -> Iterator[Unkept]:
    if rest.strip(_PADDING):
        film = ", a film" if rest[4:8] == b"ftyp" or b"ftypmp4" in rest or b"ftypisom" in rest else ""
        yield Unkept(f"{len(rest):,} {plural(len(rest), 'byte')} after the picture's end{film}", behind=True)


def _in_jpeg(file: BinaryIO) -> Iterator[Unkept]:
    content, place, comments = file.read(), 2, 0
    while content[place] == 0xFF:  # noqa: PLR2004 - how a mark begins
        mark = content[place + 1]
        if mark == _END:
            yield from _behind(content[place + 2 :])
            return
        if mark == 0xFF or 0xD0 <= mark <= 0xD7:  # noqa: PLR2004 - filling, and marks within the pixels
            place += 1 if mark == 0xFF else 2  # noqa: PLR2004
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        part = content[place + 4 : end]
        comments += mark == _COMMENT
        yield from _of_segment(mark, part)
        place = behind_scan(content, end) if mark == _SCAN else end
        if comments > 1:
            yield Unkept("further comments", says=True)


def _of_segment(mark: int, part: bytes) -> Iterator[Unkept]:
    if mark in _STORES or mark == _COMMENT:
        return
    if mark == 0xE1 and part.startswith(_MORE_XMP):  # noqa: PLR2004
        yield Unkept("the second part of XMP", says=True)
    elif not any(mark == known and part.startswith(start) for known, start in _SEGMENTS):
        name = part[:12].split(b"\0")[0].decode("ascii", "replace")
        yield Unkept(f"the segment APP{mark & 0xF} {name!r}", says=True)
    elif part.startswith(_XMP_IN_JPEG):
        yield from _in_xmp(part)
    elif part.startswith(b"Photoshop"):
        yield from _in_photoshop(part[14:], iptc=True)


def _in_xmp(xmp: bytes) -> Iterator[Unkept]:
    return (Unkept(words) for pattern, words in _ONLY_XMP_SAYS if pattern.search(xmp))


def _in_photoshop(blocks: bytes, *, iptc: bool) -> Iterator[Unkept]:
    """Check Photoshop's resources: each has a mark, number, name and length. `iptc`: whether IPTC is read here."""
    place = 0
    while blocks[place : place + 4] == b"8BIM":
        number = int.from_bytes(blocks[place + 4 : place + 6], "big")
        place += 6 + 1 + blocks[place + 6]
        place += place % 2
        length = int.from_bytes(blocks[place : place + 4], "big")
        place += 4 + length + length % 2
        if 2000 <= number < 3000:  # noqa: PLR2004 - Photoshop's numbers for them
            yield Unkept("clipping paths")
        elif number not in _BLOCKS and not (number == _IPTC and iptc):
            yield Unkept(f"Photoshop's resource {number}", says=True)


def _in_png(file: BinaryIO) -> Iterator[Unkept]:
    names: set[str] = set()
    colours: dict[str, bytes] = {}
    end = 0
    for kind, begin, length in png_chunks(file):
        name = kind.decode("ascii", "replace")
        names.add(name)
        end = begin + length + 4
        if name in _COLOURS_OF_A_PNG:
            colours[name] = _read(file, begin, length)
        elif name not in _CHUNKS:
            yield Unkept(f"the chunk {name}", says=name[:1].islower() and name != "cICP")
        if name == "IDAT" and "acTL" in names and "fcTL" not in names:
            yield Unkept("the picture that stands for the animation", further=True)
        if name == "iTXt":
            yield from _in_xmp(_read(file, begin, length))
        if name == "IEND":
            break
    if not {"iCCP", "sRGB"} & names:
        for name, found in colours.items():
            usual = _COLOURS_OF_A_PNG[name]
            numbers = struct.unpack_from(f">{len(usual)}L", found)
            if any(abs(one - other) > 10 for one, other in zip(numbers, usual, strict=True)):  # noqa: PLR2004 - rounding
                yield Unkept(f"the colours of the chunk {name}")
    file.seek(end)
    yield from _behind(file.read())


def _in_webp(file: BinaryIO) -> Iterator[Unkept]:
    end = 8 + struct.unpack("<4xL", file.read(8))[0]
    place = 12
    while place + 8 <= end:
        file.seek(place)
        name, length = struct.unpack("<4sL", file.read(8))
        if name not in _PARTS_OF_A_WEBP:
            yield Unkept(f"the part {name.decode('ascii', 'replace')!r}", says=True)
        if name == b"XMP ":
            yield from _in_xmp(_read(file, place + 8, length))
        place += 8 + length + length % 2
    file.seek(end + end % 2)
    yield from _behind(file.read())


def _in_gif(file: BinaryIO) -> Iterator[Unkept]:
    content, comments = file.read(), 0
    place = 13 + _colours_at(content, 10)
    while (mark := content[place]) != ord(";"):
        if mark == ord(","):
            place += 10 + _colours_at(content, place + 9) + 1
        else:
            number, name = content[place + 1], content[place + 3 : place + 14]
            comments += number == _COMMENTS
            if number == _PROGRAM and name not in _PROGRAMS_OF_A_GIF:
                yield Unkept(f"the part {name.decode('ascii', 'replace')!r}", says=True)
            elif number not in (_CONTROL, _COMMENTS, _PROGRAM):
                yield Unkept("text that is drawn over the picture")
            place += 2
        while length := content[place]:
            place += 1 + length
        place += 1
        if comments > 1:
            yield Unkept("further comments", says=True)
    yield from _behind(content[place + 1 :])


def _colours_at(content: bytes, flags: int) -> int:
    """Bytes of the colour table that the flags describe."""
    return 3 << ((content[flags] & 7) + 1) if content[flags] & 0x80 else 0


def _in_bmp(file: BinaryIO) -> Iterator[Unkept]:
    head = file.read(76)
    (length,) = struct.unpack_from("<L", head, 14)
    if length >= 124 and head[70:74] == _EMBEDDED_PROFILE:  # noqa: PLR2004 - the newest form
        yield Unkept("the colour profile")


def _in_tiff(file: BinaryIO) -> Iterator[Unkept]:
    for number, (order, tags) in enumerate(_directories(file)):
        for one in (*_of_page(file, order, tags), *(_of_further_page(file, order, tags) if number else ())):
            yield msgspec.structs.replace(one, further=number > 0)


def _of_page(file: BinaryIO, order: str, tags: Mapping[int, _Entry]) -> Iterator[Unkept]:
    for tag in tags:
        if tag == _LAYERS:
            yield Unkept("layers")
        elif tag not in _TAGS:
            yield Unkept(f"the tag {tag}", says=True)
    if _SAMPLES in tags and tags[_SAMPLES][1] > 1:
        yield Unkept("further channels")
    if _PHOTOSHOP_IN_TIFF in tags:
        yield from _in_photoshop(_bytes_of(file, order, tags[_PHOTOSHOP_IN_TIFF]), iptc=_IPTC_IN_TIFF in tags)
    if _XMP_IN_TIFF in tags:
        yield from _in_xmp(_bytes_of(file, order, tags[_XMP_IN_TIFF]))


def _of_further_page(file: BinaryIO, order: str, tags: Mapping[int, _Entry]) -> Iterator[Unkept]:
    """Parts that are kept only of the first page."""
    if _BITS in tags and _first_number(file, order, tags[_BITS]) > 8:  # noqa: PLR2004
        yield Unkept("more than 8 bits a channel of further pages")
    if _COLOURS in tags and _first_number(file, order, tags[_COLOURS]) == _INKS:
        yield Unkept("the inks of further pages")
    if _ONLY_FIRST & set(tags):
        yield Unkept("what tags say of further pages", says=True)


def _directories(file: BinaryIO) -> Iterator[tuple[str, Mapping[int, _Entry]]]:
    """The byte order and tags of each page; a tag has its type, number of values, and the value or its place."""
    head = file.read(16)
    order, big = TIFF_BEGINNINGS[head[:4]]
    place_as, entry = ("Q", f"{order}HHQ8s") if big else ("L", f"{order}HHL4s")
    place = struct.unpack_from(order + place_as, head, 8 if big else 4)[0]
    for _ in range(_MOST_PAGES):
        if not place:
            return
        (count,) = struct.unpack(order + ("Q" if big else "H"), _read(file, place, 8 if big else 2))
        entries = file.read(struct.calcsize(entry) * min(count, 0xFFFF))
        (place,) = struct.unpack(order + place_as, file.read(8 if big else 4))
        yield order, {tag: (kind, many, value) for tag, kind, many, value in struct.iter_unpack(entry, entries)}


def _first_number(file: BinaryIO, order: str, entry: _Entry) -> int:
    """The first of the entry's numbers, of two bytes each."""
    kind, many, value = entry
    return int(struct.unpack_from(order + "H", _bytes_of(file, order, (kind, 2 * many, value)))[0])


def _bytes_of(file: BinaryIO, order: str, entry: _Entry) -> bytes:
    """The bytes that the entry holds or points to."""
    _kind, length, value = entry
    if length <= len(value):
        return value[:length]
    return _read(file, struct.unpack(order + ("Q" if len(value) == _PLACE_IN_BIG else "L"), value)[0], length)


def _in_boxes(file: BinaryIO) -> Iterator[Unkept]:
    """Check an avif or heic."""
    size = file.seek(0, 2)
    for name, begin, end in _boxes(file, 0, size):
        if name not in _BOXES:
            yield Unkept(f"the part {name.decode('ascii', 'replace')!r}", says=name == b"uuid")
        if name == b"meta":
            yield from _in_meta(file, begin + 4, end)


def _in_meta(file: BinaryIO, begin: int, end: int) -> Iterator[Unkept]:
    for name, start, stop in _boxes(file, begin, end):
        if name == b"iinf":
            yield from _in_items(file, start, stop)
        elif name == b"iprp":
            for inner, first, last in _boxes(file, start, stop):
                if inner == b"ipco":
                    yield from _in_properties(file, first, last)


def _in_items(file: BinaryIO, begin: int, end: int) -> Iterator[Unkept]:
    file.seek(begin)
    count = 4 if file.read(1)[0] else 2  # bytes of the number of items, by the version
    for _name, start, _stop in _boxes(file, begin + 4 + count, end):
        file.seek(start)
        number = 2 if file.read(1)[0] == 2 else 4  # noqa: PLR2004 - bytes of an item's number, by the version
        file.seek(start + 4 + number + 2)
        kind = file.read(4)
        if kind not in _ITEMS:
            yield Unkept(f"the item {kind.decode('ascii', 'replace')!r}")


def _in_properties(file: BinaryIO, begin: int, end: int) -> Iterator[Unkept]:
    for name, start, stop in _boxes(file, begin, end):
        file.seek(start)
        value = file.read(min(stop - start, 4096))
        if name == b"auxC" and not value[4:].startswith(_ALPHA):
            yield Unkept(f"the picture beside it {value[4:].split(bytes(1))[0].decode('ascii', 'replace')!r}")
        elif name == b"colr" and value.startswith(b"nclx"):
            colours, curve = struct.unpack_from(">HH", value, 4)
            if colours not in _USUAL_COLOURS or curve not in _USUAL_CURVES:
                yield Unkept(f"that its colours are of kind {colours} and their brightness of kind {curve}")
        elif name not in _PROPERTIES:
            yield Unkept(f"the property {name.decode('ascii', 'replace')!r}")


def _boxes(file: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The name of each box from `place` on, where its content begins, and where it ends."""
    while place + 8 <= end:
        file.seek(place)
        length, name = struct.unpack(">L4s", file.read(8))
        begin = place + 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            begin += 8
        length = length or end - place
        if length < begin - place:
            return
        yield name, begin, min(place + length, end)
        place += length


_LOOKS: Mapping[str, Callable[[BinaryIO], Iterator[Unkept]]] = {
    "JPEG": _in_jpeg,
    "PNG": _in_png,
    "WEBP": _in_webp,
    "GIF": _in_gif,
    "BMP": _in_bmp,
    "TIFF": _in_tiff,
    "AVIF": _in_boxes,
    "HEIF": _in_boxes,
}
