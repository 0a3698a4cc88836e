"""How many pictures are in a file. Pillow visits each page of a TIFF to count them, and its work is quadratic."""

import struct
from pathlib import Path
from typing import BinaryIO

from PIL.ImageFile import ImageFile

from ..contract import Unusable

MAX_PAGES = 1_000_000
"""Directories of a TIFF that are counted; each takes a few bytes."""
_ORDERS = {b"II": "<", b"MM": ">"}
_CLASSIC, _BIG = 42, 43


def pages_in(image: ImageFile, path: Path) -> int:
    """Pages or frames; a preview, depth or the other eye in a JPEG is neither.

    Raises `Unusable` for a TIFF whose directories run in a circle, never end, or are cut off.
    """
    if image.format == "TIFF":
        with path.open("rb") as file:
            return _directories(file, path.name, path.stat().st_size)
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def _directories(file: BinaryIO, name: str, size: int) -> int:
    """The chain of directories, each of which tells where the next one is."""
    head = file.read(16)
    order = _ORDERS.get(head[:2], "<")
    big = len(head) >= 4 and struct.unpack_from(f"{order}H", head, 2)[0] == _BIG  # noqa: PLR2004 - its mark
    count_as, entry, place_as = ("Q", 20, "Q") if big else ("H", 12, "I")
    places = struct.Struct(order + place_as)
    counts = struct.Struct(order + count_as)
    begin = 8 if big else 4
    if len(head) < begin + places.size:
        return 1
    place = places.unpack_from(head, begin)[0]
    seen: set[int] = set()
    while place:
        if place in seen:
            raise Unusable(f"{name} has pages that follow each other in a circle")
        if len(seen) >= MAX_PAGES:
            raise Unusable(f"{name} has more than {MAX_PAGES:,} pages")
        end = place
        if place + counts.size <= size:
            file.seek(place)
            end += counts.size + entry * counts.unpack(file.read(counts.size))[0]
        if end + places.size > size or end == place:
            raise Unusable(f"{name} was cut: its page {len(seen) + 1} lies behind the end of the file")
        seen.add(place)
        file.seek(end)
        place = places.unpack(file.read(places.size))[0]
    return max(1, len(seen))
