"""The metadata in a picture's file: which there is, and how it gets into the output where the format can hold it."""

import struct
import warnings
from os import SEEK_END
from pathlib import Path

from PIL import Image
from PIL.ImageFile import ImageFile

from ..shaping import BROKEN_TAGS, EXIF_ORIENTATION, exif_of

_GPS = 0x8825
_TELLING = (
    *(0x010D, 0x010E, 0x010F, 0x0110),  # name, description, camera
    *(0x0131, 0x0132, 0x013B, 0x013C),  # program, date, artist, computer
    *(0x4746, 0x4749, 0x8298),  # rating, copyright
    *(0x8769, _GPS),  # the directories of EXIF and of the place
    *range(0x9C9B, 0x9CA0),  # Windows' title, comment, author, keywords, subject
)
"""Tags about the picture. All others of a TIFF say how its own pixels are stored, and would be wrong elsewhere."""
_XMP_TEXT = "XML:com.adobe.xmp"
_ENTRY, _EXIF_HEAD = 12, 14
"""Bytes."""


def names_in(image: ImageFile) -> frozenset[str]:
    """The kinds of metadata that the file has, from its header alone."""
    exif = exif_of(image)
    texts = [value for name, value in image.info.items() if isinstance(value, str) and name != _XMP_TEXT]
    found = {
        "EXIF": any(tag in exif for tag in _TELLING if tag != _GPS),
        "GPS": _GPS in exif,
        "XMP": "xmp" in image.info or _XMP_TEXT in image.info,
        "comments": bool(image.info.get("comment")) or (image.format == "PNG" and bool(texts)),
    }
    return frozenset(name for name, there in found.items() if there)


def telling_exif(image: ImageFile) -> bytes:
    """The tags about the picture, for a file in which it stands upright; empty when there are none."""
    exif = exif_of(image)  # the picture's own, which is still to be turned by it
    orientation = exif.get(EXIF_ORIENTATION)
    packed = _packed(exif)
    if orientation is not None:
        exif[EXIF_ORIENTATION] = orientation
    return packed


def metadata_for_pillow(image: ImageFile) -> dict[str, bytes]:
    """The metadata to keep, under the names that Pillow's writers use."""
    found = {"exif": telling_exif(image), "xmp": image.info.get("xmp"), "comment": image.info.get("comment")}
    return {name: data for name, data in found.items() if data}


def _packed(exif: Image.Exif) -> bytes:
    """The telling tags; empty when there are none, or broken ones, which say nothing about the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for tag in list(exif):
                if tag not in _TELLING:
                    del exif[tag]
            return exif.tobytes() if len(exif) else b""
        except BROKEN_TAGS:
            return b""


def add_exif(tiff: Path, data: bytes) -> None:
    """Add tags to the first page of a TIFF, whose writers know few: a directory at the end takes the first's place."""
    exif = _loaded(data)
    if not _packed(exif):
        return
    with tiff.open("r+b") as file:
        mark = file.read(8)
        order = "<" if mark.startswith(b"II") else ">"
        version, begin = struct.unpack(f"{order}2xHL", mark)
        if version != 42:  # noqa: PLR2004 - of more than 4 GB, with directories of another form
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
