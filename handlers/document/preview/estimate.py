"""Estimates the needs of `document_preview`. No image library here: the service imports this."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...contract import Estimate, Job
from ..kinds import OFFICE, office_suffix
from ..libreoffice import find_libreoffice
from ..page_list import most_pages
from ..pages import A4, pixels
from .options import DocumentPreviewOptions, layout_of
from .sizes import MAX_PAGE_PIXELS, choose_scale, default_box, sheet_grid

_BYTES_A_PAGE = 4_000
"""Bytes per page in a PDF of text, for guessing the number of pages."""
_ASSUMED_RATE = 0.5
"""Bytes per pixel of a compressed picture."""

_BASE = 54_000_000
_OFFICE = 280_000_000
"""Resident bytes of LibreOffice; measured: 225 to 262 MB."""
_OFFICE_TEMP = 7_000_000
"""Bytes of its own files, and of the PDF twice. Measured: 30 kB to 6.6 MB; the document does not show how many."""
_ONE, _PIECE, _SHEET = 14, 8, 12
"""Bytes per pixel in memory: a page that is the output (webp needs most), a page that is a piece, a contact sheet."""
_PIXELS_A_SECOND = 8e6


class Workload(NamedTuple):
    """The pages to draw."""

    pages: int
    area: int
    """Pixels of the largest page."""
    mean_area: int
    """Mean number of pixels of a page."""
    sheet: int
    """Pixels of the contact sheet; 0 if none is made."""
    kept: bool
    """Whether drawn pages stay on the disk until all are finished."""
    page_bytes: int
    """Bytes of a drawn page of mean size, encoded as it is kept."""
    opening: float = 0.08
    """Seconds before the first page."""
    page_seconds: float = 0.02
    """Seconds per page, besides those for its pixels."""


def estimate(job: Job[DocumentPreviewOptions]) -> Estimate:
    """Guess from the file size alone: a PDF of A4 pages."""
    options = job.options
    pages = min(most_pages(options.page_list, options.max_pages), max(1, job.input_size // _BYTES_A_PAGE))
    office = office_suffix(job.input_file) and _libreoffice_draws(options)
    return estimate_for(workload(job, pages, [A4]), {"pages": pages}, office=office, extra=2 * job.input_size * office)


def renderer_of(kind: str, options: DocumentPreviewOptions) -> str:
    """The renderer for a document of this kind: pdfium, text, libreoffice or thumbnail."""
    if kind in OFFICE:
        return "libreoffice" if _libreoffice_draws(options) else "thumbnail"
    return "pdfium" if kind == "pdf" else "text"


def _libreoffice_draws(options: DocumentPreviewOptions) -> bool:
    """Whether LibreOffice draws office documents; otherwise their own thumbnail is used."""
    return options.office == "libreoffice" or (options.office == "auto" and find_libreoffice() is not None)


def workload(job: Job[DocumentPreviewOptions], pages: int, sizes: Sequence[tuple[float, float]]) -> Workload:
    """The workload of `pages` pages with sizes like these, in points."""
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
        work: the pages to draw.
        basis: what the workload was made from, for people.
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
