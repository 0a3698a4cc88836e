"""What `document_preview` needs. No library of pictures here: the service imports this."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...contract import Estimate, Job
from ..kinds import OFFICE, office_suffix
from ..libreoffice import find_libreoffice
from ..pages import A4, pixels
from .options import DocumentPreviewOptions, layout_of, most_pages
from .sizes import MAX_PAGE_PIXELS, choose_scale, default_box, sheet_grid

_BYTES_A_PAGE = 4_000
"""Bytes of a page in a PDF of text. The number of pages is guessed by it."""
_ASSUMED_RATE = 0.5
"""Bytes of a packed picture, a pixel."""

_BASE = 54_000_000
_OFFICE = 280_000_000
"""Resident bytes of LibreOffice; it was seen with 225 to 262 MB."""
_OFFICE_TEMP = 7_000_000
"""Bytes of its own files, and of the PDF twice. It was seen with 30 kB to 6.6 MB; nothing in the document tells."""
_ONE, _PIECE, _SHEET = 14, 8, 12
"""Bytes a pixel in memory: a page that is the output (webp needs most), a page that is a piece, a contact sheet."""
_PIXELS_A_SECOND = 8e6


class Workload(NamedTuple):
    """The pages that are to be drawn."""

    pages: int
    area: int
    """Pixels of the largest page."""
    mean_area: int
    """Pixels of a page, in the mean."""
    sheet: int
    """Pixels of all of them on a contact sheet; 0 where none is made."""
    kept: bool
    """Whether drawn pages are kept on the disk until all are there."""
    page_bytes: int
    """Bytes of a drawn page of the mean size, encoded as it is kept."""
    opening: float = 0.08
    """Seconds before the first page."""
    page_seconds: float = 0.02
    """Seconds a page, beside those for its pixels."""


def estimate(job: Job[DocumentPreviewOptions]) -> Estimate:
    """Guess from the file size alone: a PDF of A4 pages."""
    options = job.options
    pages = min(most_pages(options.page_list, options.max_pages), max(1, job.input_size // _BYTES_A_PAGE))
    office = office_suffix(job.input_file) and _libreoffice_draws(options)
    return estimate_for(workload(job, pages, [A4]), {"pages": pages}, office=office, extra=2 * job.input_size * office)


def renderer_of(kind: str, options: DocumentPreviewOptions) -> str:
    """What draws the pages of a document of this kind: pdfium, text, libreoffice or thumbnail."""
    if kind in OFFICE:
        return "libreoffice" if _libreoffice_draws(options) else "thumbnail"
    return "pdfium" if kind == "pdf" else "text"


def _libreoffice_draws(options: DocumentPreviewOptions) -> bool:
    """Whether LibreOffice draws office documents; else the thumbnail in them is taken."""
    return options.office == "libreoffice" or (options.office == "auto" and find_libreoffice() is not None)


def workload(job: Job[DocumentPreviewOptions], pages: int, sizes: Sequence[tuple[float, float]]) -> Workload:
    """The workload of `pages` pages whose sizes in points are like these."""
    options, layout = job.options, layout_of(job.output_file)
    drawn = [_drawn(size, options, default_box(layout, pages)) for size in sizes]
    areas = [math.prod(size) for size in drawn]
    mean_area = sum(areas) // len(areas)
    cell = max(width for width, _ in drawn), max(height for _, height in drawn)
    columns, rows = sheet_grid(pages, cell, options.columns)
    return Workload(
        pages=pages,
        area=max(areas),
        mean_area=mean_area,
        sheet=columns * rows * (cell[0] + options.gap) * (cell[1] + options.gap) if layout == "picture" else 0,
        kept=pages > 1 or layout != "picture",
        page_bytes=int(_ASSUMED_RATE * mean_area),
    )


def _drawn(size: tuple[float, float], options: DocumentPreviewOptions, box: int) -> tuple[int, int]:
    return pixels(*size, choose_scale(*size, options, box).factor)


def estimate_for(work: Workload, basis: dict[str, Any], *, office: bool, extra: int) -> Estimate:
    """Estimate from the workload.

    Args:
        work: what is to be drawn.
        basis: what it was made from, for people.
        office: whether LibreOffice makes a PDF first.
        extra: bytes of memory for the document itself.
    """
    picture = _ONE * work.area
    if work.pages > 1:
        picture = max(
            _PIECE * work.area, _SHEET * work.sheet if work.sheet <= MAX_PAGE_PIXELS else 0
        )  # larger is refused
    seconds = work.opening + work.pages * (work.page_seconds + work.mean_area / _PIXELS_A_SECOND)
    return Estimate(
        memory=_BASE + picture + extra + (_OFFICE if office else 0),
        temp=2_000 + work.page_bytes * work.pages * (2 if work.kept else 1) + (_OFFICE_TEMP if office else 0),
        seconds=seconds + (3.0 if office else 0.0),
        basis=basis,
    )
