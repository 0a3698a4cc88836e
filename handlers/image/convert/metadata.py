"""The metadata of a picture: the kinds that the input has, and writing them if the output's format can hold them."""

import re
import struct
import warnings
from os import SEEK_END
from pathlib import Path
from typing import Any, Literal

import msgspec
from PIL import Image, PngImagePlugin
from PIL.ImageFile import ImageFile

from ..shaping import BROKEN_TAGS, EXIF_ORIENTATION, exif_of

_GPS, _CAMERA = 0x8825, 0x8769
_FORMAL = frozenset((0x9000, 0x9101, 0xA000, 0xA001, 0xA002, 0xA003, 0xA005))
"""Tags of the directory `_CAMERA` that only EXIF's own form requires: versions and sizes."""
TELLING = (
    *(0x010D, 0x010E, 0x010F, 0x0110),  # name, description, camera
    *(0x0131, 0x0132, 0x013B, 0x013C),  # program, date, artist, computer
    *(0x4746, 0x4749, 0x8298),  # rating, copyright
    *(_CAMERA, _GPS),  # the directories of EXIF and GPS
    *range(0x9C9B, 0x9CA0),  # Windows' title, comment, author, keywords, subject
)
"""Tags about the picture. All others in a TIFF describe how its own pixels are stored, and would be wrong elsewhere."""
_ACROSS, _DOWN, _UNIT, _CENTIMETRES = 0x011A, 0x011B, 0x0128, 3
_USUAL = frozenset((1.0, 25.4, 72.0, 96.0))
"""Pixels per inch that programs write by default, without a measurement or a request."""
_MOST_DPI = 1_000_000
_HOLDS_DPI = ("JPEG", "PNG", "TIFF", "BMP")
_XMP_TEXT = "XML:com.adobe.xmp"
_PACKED_TEXT = "Raw profile type "
"""First words of the PNG texts in which ImageMagick puts EXIF, XMP and IPTC. These are kept in their own places."""
_IPTC_IN_TIFF, _IPTC_IN_JPEG = 0x83BB, 0x0404
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>\s*))[2-8]""")
_XMP_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
_LONGEST_SEGMENT = 65_000
"""Bytes of content in one segment of a JPEG."""
_ENTRY, _EXIF_HEAD = 12, 14
"""Bytes."""


def names_in(image: ImageFile) -> frozenset[str]:
    """The kinds of metadata in the file, from its header alone."""
    exif = exif_of(image)
    found = {
        "EXIF": any(tag in exif for tag in TELLING if tag not in (_GPS, _CAMERA)) or _says_of_camera(exif),
        "GPS": _GPS in exif,
        "XMP": bool(_xmp(image)),
        "IPTC": bool(_iptc(image)),
        "comments": bool(_comments(image)),
        "resolution": bool(_resolution(image, exif)),
    }
    return frozenset(name for name, there in found.items() if there)


def _resolution(image: ImageFile, exif: Image.Exif) -> tuple[float, ...]:
    """Pixels per inch, across and down; empty if the file gives none, or a default that no one has chosen."""
    found = image.info.get("dpi") or (exif.get(_ACROSS, 0), exif.get(_DOWN, 0))
    per_cm = "dpi" not in image.info and exif.get(_UNIT) == _CENTIMETRES
    try:
        across, down = (float(one) * (2.54 if per_cm else 1) for one in found)
    except BROKEN_TAGS:
        return ()
    if not all(0 < one < _MOST_DPI for one in (across, down)) or {round(across, 1), round(down, 1)} <= _USUAL:
        return ()
    return across, down


def _says_of_camera(exif: Image.Exif) -> bool:
    try:
        return any(tag not in _FORMAL for tag in exif.get_ifd(_CAMERA))
    except BROKEN_TAGS:
        return False


class KeptMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a picture, for an output in which it stands upright; empty where there is none.

    The small preview is left out: it would still show what was cut away.
    """

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    """IPTC records, without a wrapper."""
    comments: tuple[tuple[str, str], ...] = ()
    """Keyword and text."""
    resolution: tuple[float, ...] = ()
    """Pixels per inch, across and down, if someone has chosen them."""


NO_METADATA = KeptMetadata()


def metadata_of(image: ImageFile) -> KeptMetadata:
    """The metadata to keep, from the header."""
    xmp = _XMP_THUMBNAILS.sub(b"", _XMP_ORIENTATION.sub(rb"\g<1>1", _xmp(image)))
    resolution = _resolution(image, exif_of(image))
    return KeptMetadata(
        exif=telling_exif(image), xmp=xmp, iptc=_iptc(image), comments=_comments(image), resolution=resolution
    )


def for_pillow(kept: KeptMetadata, kind: str) -> dict[str, Any]:
    """The metadata under the names that Pillow's writers use, as far as the format can hold it."""
    resolution = {"dpi": kept.resolution} if kept.resolution and kind in _HOLDS_DPI else {}
    if kind == "BMP":
        return resolution
    comment = kept.comments[0][1].encode() if kept.comments and kind in ("GIF", "JPEG") else b""
    texts = _png_texts(kept) if kind == "PNG" else None
    told = (("exif", kept.exif), ("xmp", kept.xmp), ("comment", comment), ("pnginfo", texts))
    return {name: data for name, data in told if data} | resolution


def _png_texts(kept: KeptMetadata) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for keyword, text in kept.comments:
        texts.add_text(keyword, text)
    if kept.xmp:
        texts.add_itxt(_XMP_TEXT, kept.xmp.decode("utf-8", "replace"))
    return texts


def _xmp(image: ImageFile) -> bytes:
    found = image.info.get("xmp") or image.info.get(_XMP_TEXT) or b""
    return found.encode() if isinstance(found, str) else bytes(found)


def _iptc(image: ImageFile) -> bytes:
    if image.format in ("JPEG", "MPO"):
        blocks = image.info.get("photoshop")
        found = blocks.get(_IPTC_IN_JPEG, b"") if isinstance(blocks, dict) else b""
    else:
        found = image.tag_v2.get(_IPTC_IN_TIFF, b"") if image.format == "TIFF" else b""  # type: ignore[attr-defined]  # a TIFF has it
    if isinstance(found, tuple) and all(isinstance(number, int) for number in found):  # declared as whole numbers
        order: Literal["little", "big"] = "little" if image.tag_v2.prefix == b"II" else "big"  # type: ignore[attr-defined]  # a TIFF has it
        found = b"".join(number.to_bytes(4, order) for number in found)
    return found if isinstance(found, bytes) else b""


def _comments(image: ImageFile) -> tuple[tuple[str, str], ...]:
    if image.format == "PNG":
        texts = ((name, text) for name, text in image.info.items() if isinstance(text, str))
        return tuple(
            (str(name), str(text))
            for name, text in texts
            if name != _XMP_TEXT and not str(name).startswith(_PACKED_TEXT)
        )
    found = image.info.get("comment")
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found or "")
    return (("Comment", text),) if text else ()


def telling_exif(image: ImageFile) -> bytes:
    """The tags about the picture, for an output in which it stands upright; empty when there are none."""
    exif = exif_of(image)  # the picture's own tags, which later code still needs to turn it
    orientation = exif.get(EXIF_ORIENTATION)
    packed = _packed(exif)
    if orientation is not None:
        exif[EXIF_ORIENTATION] = orientation
    return packed


def photoshop_block(iptc: bytes) -> bytes:
    """The IPTC records as a JPEG stores them; empty if they are too long for it."""
    if not 0 < len(iptc) <= _LONGEST_SEGMENT:
        return b""
    return (
        b"Photoshop 3.0\0" + struct.pack(">4sHHL", b"8BIM", _IPTC_IN_JPEG, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    )


def add_to_jpeg(jpeg: Path, comment: str) -> None:
    """Add a comment after the first segments of a JPEG, because libvips writes none."""
    text = comment.encode()[:_LONGEST_SEGMENT]
    content = jpeg.read_bytes()
    place = 2
    while content[place] == 0xFF and content[place + 1] & 0xF0 == 0xE0:  # noqa: PLR2004 - APP0 to APP15
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    jpeg.write_bytes(content[:place] + struct.pack(">HH", 0xFFFE, 2 + len(text)) + text + content[place:])


def _packed(exif: Image.Exif) -> bytes:
    """The `TELLING` tags; empty if there are none, or they are broken, which says nothing about the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for tag in list(exif):
                if tag not in TELLING:
                    del exif[tag]
            return exif.tobytes() if len(exif) else b""
        except BROKEN_TAGS:
            return b""


def add_to_tiff(tiff: Path, data: bytes, iptc: bytes = b"") -> None:
    """Add tags to the first page of a TIFF, whose writers know few. A new directory at the end replaces the first."""
    exif = _loaded(data)
    told = _packed(exif)
    if iptc:
        exif[_IPTC_IN_TIFF] = iptc
    if not told and not iptc:
        return
    with tiff.open("r+b") as file:
        mark = file.read(8)
        order = "<" if mark.startswith(b"II") else ">"
        version, begin = struct.unpack(f"{order}2xHL", mark)
        if version != 42:  # noqa: PLR2004 - BigTIFF, whose directories have another form
            return
        file.seek(begin)
        first = file.read(2 + _ENTRY * 0xFFFF + 4)
        entries = _entries(first, order)
        following = first[2 + _ENTRY * len(entries) :][:4]
        end = file.seek(0, SEEK_END)
        place = end + end % 2
        exif.endian = order
        added = exif.tobytes(place)[_EXIF_HEAD:]
        entries |= _entries(added, order)
        file.write(bytes(place - end) + added)
        directory = file.tell() + file.tell() % 2
        file.seek(directory)
        file.write(
            struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + following
        )
        file.seek(4)
        file.write(struct.pack(f"{order}L", directory))


def _loaded(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exif.load(data)
        except BROKEN_TAGS:
            return Image.Exif()
    return exif


def _entries(directory: bytes, order: str) -> dict[int, bytes]:
    """Tag → the bytes of its entry."""
    (count,) = struct.unpack_from(f"{order}H", directory)
    lines = (directory[start : start + _ENTRY] for start in range(2, 2 + _ENTRY * count, _ENTRY))
    return {struct.unpack_from(f"{order}H", line)[0]: line for line in lines}
