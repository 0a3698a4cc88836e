"""Opens untrusted pictures: only a few formats, and the size is known before anything is decoded."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ..contract import Unusable
from ..inputs import refuse_empty
from ..io_errors import error_text
from ..media.damage import exif_behind_pixels, is_picture, unreadable
from ..media.estimate import Packing, packing_of
from ..media.formats import has_heic
from ..media.pictures import pixel_limit
from .limits import check_pixels


def _heic_formats() -> tuple[str, ...]:
    """Register HEIC with Pillow if its package is installed."""
    if not has_heic():
        return ()
    import_module("pillow_heif").register_heif_opener()
    return ("HEIF",)


READ_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", *_heic_formats())
"""The only formats that are opened. Pillow's other readers start programs (EPS), or are rarely used and tested."""

MAX_PAGES = 1_000_000
"""Directories of a TIFF that are counted. Each takes only a few bytes of the file."""

_NUMBERS = {"F": "floating-point numbers", "I": "32-bit numbers"}
"""Modes of measurements (heights, temperatures, masks): the file does not say which number is black or white."""
_CUT_SHORT = (TypeError, IndexError, KeyError)
"""Errors that Pillow raises when a header is cut off."""
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_BIG_TIFF = 43
_KIND_OF_PAGE, _SMALLER_COPY = 254, 1
"""The lowest tag of a page, and its bit for a smaller copy of another page."""
_COLOURS, _OF_A_SENSOR = 262, (32803, 34892)
"""The tag for what the pixels mean, and its values for what a camera's sensor has measured."""
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ONE_MAIN = ("MPO", "HEIF")
"""Formats of one picture, with others beside it: a preview, a depth map, the other eye, further shots. pillow-heif
opens a HEIF at its primary picture, and reads no image sequences."""
_WHOLE = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""The kinds of whole numbers in a directory."""
_MOST_ENTRIES = 65_535
_FURTHER, _MOST_FURTHER = 330, 64
"""The tag for directories below another one, and how many of them are looked at."""
_CR2 = b"II*\0\x10\0\0\0CR"
"""The first bytes of raw data of Canon, which has no such tag."""


@contextmanager
def open_picture(path: Path, max_pixels: int) -> Iterator[ImageFile]:
    """Open the file and read its header; nothing is decoded yet. Decode it inside of `blame_picture`.

    Raises:
        Unusable: it has no format of `READ_FORMATS`, cannot be read, holds measurements or a camera's raw data, or has
            more than `max_pixels`.
        OSError: the disk is at fault.
    """
    refuse_empty(path)
    # A file, not a name: Pillow would map an uncompressed picture, and the worker would die if that file were cut.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the picture can still be read; its size is checked below
        if _is_raw(file):
            raise Unusable(
                f"{path.name} is the raw data of a camera, with a preview: develop it first, as a tiff or jpeg"
            )
        file.seek(0)
        with blame_picture(path), pixel_limit(None):
            opened = Image.open(file, formats=READ_FORMATS)
            if opened.format == "PNG" and "exif" not in opened.info and (exif := exif_behind_pixels(file)):
                opened.info["exif"] = exif
        with opened as image, pixel_limit(max_pixels):
            check_pixels(path.name, image.size, max_pixels)
            refuse_numbers(image, path.name)
            yield image


def refuse_numbers(image: Image.Image, name: str) -> None:
    """Raise `Unusable` if the picture, or its page called `name`, holds measurements."""
    if image.mode in _NUMBERS:
        raise Unusable(f"{name} holds {_NUMBERS[image.mode]}, not a picture: scale them to 8 or 16 bits first")


@contextmanager
def blame_picture(path: Path) -> Iterator[None]:
    """Turn errors that Pillow raises while it decodes `path` into `Unusable`; let the disk's faults pass.

    Only decoding belongs inside: any other error would be blamed on the picture.
    """
    try:
        yield
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(f"{path.name} is too large: a frame claims more pixels than the picture may have") from error
    except UnidentifiedImageError as error:
        if is_picture(path):
            raise unreadable(path, "Pillow", "it does not know this variant of the format") from error
        raise Unusable(
            f"{path.name} is not an image in one of {', '.join(READ_FORMATS)}: save it as png with a program that "
            "reads it, and take that"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise unreadable(path, "Pillow", error_text(error)) from error
    except (SyntaxError, ValueError, EOFError, RuntimeError, struct.error, *_CUT_SHORT) as error:
        raise unreadable(path, "Pillow", error_text(error) or type(error).__name__) from error


def format_in(image: ImageFile) -> str:
    """Pillow's name of the format. A JPEG stays a JPEG even if a camera has added further pictures to it."""
    return "JPEG" if image.format == "MPO" else str(image.format)


def packing_in(image: ImageFile, size: int) -> Packing | None:
    """How tightly the file, of `size` bytes, packs the picture. Call it before `draft` reduces the picture."""
    compression = str(image.info.get("compression", ""))
    return packing_of(format_in(image), size, image.width * image.height, mode=image.mode, compression=compression)


def pages_in(image: ImageFile, path: Path) -> int:
    """The number of pages or frames. What is beside the picture of a JPEG or HEIF does not count.

    Raises `Unusable` for a TIFF whose directories form a circle, never end, or are cut off.
    """
    if image.format == "TIFF":  # Pillow visits each page to count them, which takes quadratic time
        with path.open("rb") as file:
            return _tiff_pages(file, path.name, path.stat().st_size)
    return 1 if image.format in _ONE_MAIN else max(1, int(getattr(image, "n_frames", 1)) - hidden_frames(image))


def pictures_beside(image: ImageFile) -> int:
    """How many whole pictures the file holds beside the one that it is opened at: in a JPEG or HEIF."""
    return int(getattr(image, "n_frames", 1)) - 1 if image.format in _ONE_MAIN else 0


def hidden_frames(image: ImageFile) -> int:
    """Frames before the first: a PNG may have a separate picture for programs that do not show animations."""
    return int(bool(image.info.get("default_image")))


class _Layout(NamedTuple):
    """How the numbers of a TIFF are written."""

    order: str
    first: int
    """The place of the first directory."""
    counts: struct.Struct
    places: struct.Struct
    entry: int
    """Bytes of an entry."""

    @classmethod
    def of(cls, head: bytes) -> "_Layout | None":
        """The layout that the first 16 bytes tell; None if they are too few."""
        order = _BYTE_ORDERS.get(head[:2], "<")
        big = len(head) >= 4 and struct.unpack_from(f"{order}H", head, 2)[0] == _BIG_TIFF  # noqa: PLR2004 - the mark of a BigTIFF
        count_as, entry, place_as = ("Q", 20, "Q") if big else ("H", 12, "I")
        places, begin = struct.Struct(order + place_as), 8 if big else 4
        if len(head) < begin + places.size:
            return None
        return cls(order, places.unpack_from(head, begin)[0], struct.Struct(order + count_as), places, entry)


def _is_raw(file: BinaryIO) -> bool:
    """Whether a TIFF holds what a camera's sensor has measured. Its first directory is mostly a preview of it."""
    head = file.read(16)
    form = _Layout.of(head)
    if head[:4] not in _TIFF_MARKS or form is None:
        return False
    if head.startswith(_CR2):
        return True
    size = file.seek(0, SEEK_END)
    first = _numbers_of(file, form, form.first, size)
    found = [first, *(_numbers_of(file, form, place, size) for place in first.get(_FURTHER, ()))]
    return any(colours in _OF_A_SENSOR for each in found for colours in each.get(_COLOURS, ()))


def _numbers_of(file: BinaryIO, form: _Layout, place: int, size: int) -> dict[int, tuple[int, ...]]:
    """The whole numbers in the two tags that `_is_raw` needs, of the directory there; none where it was cut."""
    found: dict[int, tuple[int, ...]] = {}
    try:
        file.seek(min(place, size))
        count = min(form.counts.unpack(file.read(form.counts.size))[0], _MOST_ENTRIES)
        entries = file.read(count * form.entry)
        for begin in range(0, len(entries), form.entry):
            tag, kind = struct.unpack_from(f"{form.order}HH", entries, begin)
            if tag not in (_COLOURS, _FURTHER) or kind not in _WHOLE:
                continue
            many = form.places.unpack_from(entries, begin + 4)[0]
            numbers = struct.Struct(f"{form.order}{min(many, _MOST_FURTHER)}{_WHOLE[kind]}")
            held = entries[begin + 4 + form.places.size : begin + form.entry]
            if numbers.size > len(held):
                file.seek(min(form.places.unpack(held)[0], size))
                held = file.read(numbers.size)
            found[tag] = numbers.unpack_from(held)
    except struct.error:
        return found
    return found


def _tiff_pages(file: BinaryIO, name: str, size: int) -> int:
    """Count the directories, one for each page; each gives the place of the next one.

    A picture followed only by smaller copies of itself, as viewers of large ones want them, is one page.
    """
    form = _Layout.of(file.read(16))
    if form is None:
        return 1
    order, place, counts, places, entry = form
    seen: set[int] = set()
    copies = 0
    while place:
        if place in seen:
            raise Unusable(f"{name} has pages that follow each other in a circle")
        if len(seen) >= MAX_PAGES:
            raise Unusable(f"{name} has more than {MAX_PAGES:,} pages")
        end = place
        if place + counts.size <= size:
            file.seek(place)
            end += counts.size + entry * counts.unpack(file.read(counts.size))[0]
            first = file.read(entry).ljust(entry, b"\0")  # the tags are in order
            tag, value = struct.unpack_from(f"{order}H{entry - places.size - 2}xI", first)
            copies += len(seen) > 0 and tag == _KIND_OF_PAGE and bool(value & _SMALLER_COPY)
        if end + places.size > size or end == place:
            raise Unusable(f"{name} was cut: its page {len(seen) + 1} lies after the end of the file")
        seen.add(place)
        file.seek(end)
        place = places.unpack(file.read(places.size))[0]
    return 1 if copies == len(seen) - 1 else max(1, len(seen))
