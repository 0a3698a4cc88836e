"""Estimates `document_preview` by opening the document, and drawing one page at a small size."""

import math
import time
from contextlib import closing
from io import BytesIO

from ...contract import Estimate, Job
from ..archive import inspect_archive, page_hint
from ..kinds import PACKED, document_kind
from ..libreoffice import require_libreoffice
from ..page_list import choose_pages, most_pages
from ..pages import A4, Pages
from ..pdf import PdfPages
from ..text import TextPages
from ..thumbnail import ThumbnailPage
from .compose import write_output, write_piece
from .estimate import Workload, estimate_for, renderer_of, workload
from .options import DocumentPreviewOptions, layout_of
from .sizes import choose_scale, default_box

_SAMPLES = 160, 400
"""Boxes in pixels. Small, because a sample costs a page's decoding anyway; two show how the bytes grow."""
_LEAST_GROWTH, _MOST_GROWTH = 0.4, 1.0
_MARGIN = 1.4
_PDF = 6_000_000
"""Bytes of memory for an open PDF."""
_MOST_PACKED = 64_000_000
"""The most bytes of a file that PDFium keeps in memory unchanged."""
_LOOKED_AT = 8
"""The number of pages whose pictures are examined."""
_FONTS = 6_000_000
"""Bytes of memory for the fonts of a text."""
_MARKDOWN = 6_000_000
"""Bytes of memory for the Markdown parser."""
_TEXT = 16
"""Bytes of memory for each byte of a text, laid out."""
_DENSEST = 3.0
"""The most bytes per pixel of any png."""
_EMPTIEST = 0.001
"""Bytes per pixel of empty paper, which a small sample does not show."""
_OFFICE_PAGE = 8_000
"""Bytes per page of an office document that does not state its number of pages."""
_OFFICE_RATE = 0.2


def probe(job: Job[DocumentPreviewOptions]) -> Estimate:
    """Estimate from the document itself.

    Raises:
        Unusable: it can never be drawn as requested.
        OSError: it cannot be read.
    """
    options, path, size = job.options, job.input_file, job.input_size
    kind = document_kind(path)
    match renderer_of(kind, options):
        case "pdfium":
            return _drawn(job, PdfPages(path), kind, extra=_PDF)
        case "text":
            markdown = kind == "markdown"
            extra = _FONTS + _TEXT * size + _MARKDOWN * markdown
            return _drawn(job, TextPages(path, markdown=markdown), kind, extra=extra)
        case "thumbnail":
            return _drawn(job, ThumbnailPage(path), kind, extra=0)
    require_libreoffice(path.name, kind)
    if kind in PACKED:
        inspect_archive(path)
    expected = (page_hint(path) if kind in PACKED else None) or 1 + size // _OFFICE_PAGE
    pages = min(most_pages(options.page_list, options.max_pages), expected)
    work = workload(job, pages, [A4])
    work = work._replace(page_bytes=int(_OFFICE_RATE * work.mean_area))
    basis = {"kind": kind, "pages": pages}
    return estimate_for(work, basis, office=True, extra=2 * size)


def _drawn(job: Job[DocumentPreviewOptions], pages: Pages, kind: str, extra: int) -> Estimate:
    options = job.options
    began = time.perf_counter()
    with closing(pages):
        numbers = choose_pages(options.page_list, pages.count, options.max_pages)
        sizes = [pages.size(number) for number in numbers]
        opening = time.perf_counter() - began
        largest = max(range(len(numbers)), key=lambda place: sizes[place][0] * sizes[place][1])
        work = workload(job, len(numbers), sizes)
        page_bytes, seconds = _measure(job, pages, numbers[0], work)
        if isinstance(pages, PdfPages):
            extra += min(job.input_size, _MOST_PACKED) + _pictures(job, pages, dict(zip(numbers, sizes, strict=True)))
        work = work._replace(page_bytes=page_bytes, opening=0.08 + opening, page_seconds=seconds)
        width, height = sizes[largest]
        basis = {
            "kind": kind,
            "pages": len(numbers),
            "document_pages": pages.count,
            "width": round(width, 1),
            "height": round(height, 1),
        }
    return estimate_for(work, basis, office=False, extra=extra)


def _pictures(job: Job[DocumentPreviewOptions], pages: PdfPages, sizes: dict[int, tuple[float, float]]) -> int:
    """Bytes of memory for the largest picture on some of the pages: evenly spread ones, and the largest page."""
    box = default_box(layout_of(job.output_file), len(sizes))
    largest = max(sizes, key=lambda number: math.prod(sizes[number]))
    some = {*list(sizes)[:: math.ceil(len(sizes) / _LOOKED_AT)], largest}
    return max(pages.picture_bytes(one, choose_scale(*sizes[one], job.options, box).factor) for one in some)


def _measure(job: Job[DocumentPreviewOptions], pages: Pages, number: int, work: Workload) -> tuple[int, float]:
    """Bytes of the page in its final encoding, and the seconds to draw it, from two small samples."""
    options, measured = job.options, []
    began = time.perf_counter()
    for box in _SAMPLES:
        scale = choose_scale(*pages.size(number), DocumentPreviewOptions(), box, pages.most)
        picture = pages.draw(number, scale.factor, options.background)
        packed = BytesIO()
        if work.kept:
            write_piece(picture, packed, options, job.output_file)
        else:
            write_output(picture, packed, options, job.output_file)
        measured.append((picture.width * picture.height, packed.tell()))
    (small, few), (large, many) = measured
    growth = math.log(many / few) / math.log(large / small) if large > small else _MOST_GROWTH
    growth = min(_MOST_GROWTH, max(_LEAST_GROWTH, growth))
    page_bytes = _MARGIN * many * (work.mean_area / large) ** growth + _EMPTIEST * work.mean_area
    return int(min(page_bytes, _DENSEST * work.mean_area + 1000)), (time.perf_counter() - began) / len(_SAMPLES)
