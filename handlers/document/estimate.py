"""What `document_preview` needs. Light: the service imports this; the worker calls it again when it has looked."""

from typing import Any, NamedTuple

import msgspec

from ..contract import Estimate
from .options import DocumentPreviewOptions
from .page_list import most_pages
from .sizes import MAX_PIXELS, PAGE_BOX, TILE_BOX, choose_scale, pixels

A4 = (595.0, 842.0)
_BYTES_A_PAGE = 4_000
"""Of a PDF of text; the guess for how many pages a file can have."""
_ASSUMED_RATE = 0.5
"""Bytes of a packed picture, a pixel."""

_BASE = 52_000_000
_OFFICE = 280_000_000
"""Resident bytes of LibreOffice; it was seen with 225 to 262 MB."""
_OFFICE_TEMP = 6_000_000
_ONE, _PIECE, _SHEET = 14, 8, 12
"""Bytes a pixel in memory: a page that is the output (webp needs most), a page that is a piece, a contact sheet."""
_PIXELS_A_SECOND = 12e6


class Workload(NamedTuple):
    """What is to be drawn."""

    pages: int
    area: int
    """Pixels of the largest page."""
    tile: int
    """The same on a contact sheet."""
    rate: float = _ASSUMED_RATE
    """Bytes of a packed picture, a pixel."""
    opening: float = 0.06
    """Seconds before the first page."""
    page_seconds: float = 0.02
    """Seconds a page beside those for its pixels."""


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """For people."""

    kind: str
    pages: int
    document_pages: int | None = None
    width: int
    height: int
    """Pixels of the largest page."""


def estimate(options: DocumentPreviewOptions, input_size: int) -> Estimate:
    """Guess from the file size alone: a PDF of A4 pages. Looking into it makes it better, in the worker."""
    pages = min(most_pages(options.pages, options.max_pages), max(1, input_size // _BYTES_A_PAGE))
    return needs(workload(options, pages, A4), {"pages": pages}, office=False, extra=0)


def workload(options: DocumentPreviewOptions, pages: int, size: tuple[float, float], **seen: Any) -> Workload:
    """So many pages of this size in points. The output's suffix is not known here, so both of its boxes count."""
    areas = []
    for box in (PAGE_BOX, TILE_BOX):
        width, height = pixels(*size, choose_scale(*size, options, box).factor)
        areas.append(width * height)
    return Workload(pages, *areas, **seen)


def needs(work: Workload, basis: dict[str, Any], *, office: bool, extra: int) -> Estimate:
    """The estimate.

    Args:
        work: what is to be drawn.
        basis: what it was made from, for people.
        office: whether LibreOffice comes first.
        extra: bytes of memory for the document itself.
    """
    several = work.pages > 1
    picture = _PIECE * work.area if several else _ONE * work.area
    sheet = work.pages * work.tile
    if several and sheet <= MAX_PIXELS:  # a larger one is refused
        picture = max(picture, _SHEET * sheet)
    output = int(work.rate * work.area * work.pages)
    seconds = work.opening + work.pages * (work.page_seconds + work.area / _PIXELS_A_SECOND)
    return Estimate(
        memory=_BASE + picture + extra + (_OFFICE if office else 0),
        temp=10_000 + output * (2 if several else 1) + (_OFFICE_TEMP if office else 0),
        seconds=seconds + (3.0 if office else 0.0),
        basis=basis,
    )
