"""A look into the document before the work begins, for a better estimate: one page is drawn small, and weighed."""

import math
import time
from contextlib import closing
from io import BytesIO

from ..contract import Estimate, Job
from .archive import ThumbnailPage, inspect_archive, page_hint
from .encode import write_output, write_piece
from .estimate import A4, Workload, needs, workload
from .kinds import PACKED, kind_of
from .office import require_libreoffice
from .options import DocumentPreviewOptions, layout_of
from .page_list import choose_pages, most_pages
from .pdf import PdfPages
from .sizes import choose_scale, default_box
from .sources import Pages, renderer_of
from .text import TextPages

_SAMPLES = 160, 400
"""Boxes in pixels. Small, because a sample costs a page's decoding anyway; two, to see how the bytes grow."""
_LEAST_GROWTH, _MOST_GROWTH = 0.4, 1.0
_MARGIN = 1.4
_PDF = 6_000_000
"""Bytes of memory of an open PDF."""
_MOST_PACKED = 64_000_000
"""Bytes of a file that are in memory at once, as they stand in it."""
_LOOKED_AT = 8
"""Pages whose pictures are looked at."""
_FONTS = 4_000_000
"""Bytes of memory to set text."""
_DENSEST = 3.0
"""Bytes a pixel; no png has more."""
_EMPTIEST = 0.001
"""Bytes a pixel of empty paper, of which a small sample shows nothing."""
_OFFICE_PAGE = 8_000
"""Bytes of an office document, a page, where it does not say how many it has."""
_OFFICE_RATE = 0.2


def look(job: Job[DocumentPreviewOptions]) -> Estimate:
    """The estimate for this document.

    Raises:
        Unusable: it can never be drawn as asked.
        OSError: it cannot be read.
    """
    options, path, size = job.options, job.input_file, job.input_size
    kind = kind_of(path)
    match renderer_of(kind, options):
        case "pdfium":
            return _drawn(job, PdfPages(path), kind, extra=_PDF)
        case "text":
            return _drawn(job, TextPages(path, markdown=kind == "markdown"), kind, extra=_FONTS + 12 * size)
        case "thumbnail":
            return _drawn(job, ThumbnailPage(path), kind, extra=0)
    require_libreoffice(path.name)
    if kind in PACKED:
        inspect_archive(path)
    expected = (page_hint(path) if kind in PACKED else None) or 1 + size // _OFFICE_PAGE
    pages = min(most_pages(options.page_list, options.max_pages), expected)
    work = workload(job, pages, [A4])
    work = work._replace(page_bytes=int(_OFFICE_RATE * work.mean_area))
    basis = {"kind": kind, "pages": pages}
    return needs(work, basis, office=True, extra=2 * size)


def _drawn(job: Job[DocumentPreviewOptions], pages: Pages, kind: str, extra: int) -> Estimate:
    options = job.options
    began = time.perf_counter()
    with closing(pages):
        numbers = choose_pages(options.page_list, pages.count, options.max_pages)
        sizes = [pages.size(number) for number in numbers]
        opening = time.perf_counter() - began
        largest = max(range(len(numbers)), key=lambda place: sizes[place][0] * sizes[place][1])
        work = workload(job, len(numbers), sizes)
        page_bytes, seconds = _weigh(job, pages, numbers[0], work)
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
    return needs(work, basis, office=False, extra=extra)


def _pictures(job: Job[DocumentPreviewOptions], pages: PdfPages, sizes: dict[int, tuple[float, float]]) -> int:
    """Bytes of memory for the largest picture on some of the pages, evenly spread and the largest page among them."""
    box = default_box(layout_of(job.output_file), len(sizes))
    largest = max(sizes, key=lambda number: math.prod(sizes[number]))
    some = {*list(sizes)[:: math.ceil(len(sizes) / _LOOKED_AT)], largest}
    return max(pages.picture_bytes(one, choose_scale(*sizes[one], job.options, box).factor) for one in some)


def _weigh(job: Job[DocumentPreviewOptions], pages: Pages, number: int, work: Workload) -> tuple[int, float]:
    """Bytes of the page, packed as it will be, and seconds to open and draw it, by two small ones."""
    options, weights = job.options, []
    began = time.perf_counter()
    for box in _SAMPLES:
        scale = choose_scale(*pages.size(number), DocumentPreviewOptions(), box, pages.most)
        picture = pages.draw(number, scale.factor, options.background)
        packed = BytesIO()
        if work.kept:
            write_piece(picture, packed, options, job.output_file)
        else:
            write_output(picture, packed, options, job.output_file)
        weights.append((picture.width * picture.height, packed.tell()))
    (small, few), (large, many) = weights
    growth = math.log(many / few) / math.log(large / small) if large > small else _MOST_GROWTH
    growth = min(_MOST_GROWTH, max(_LEAST_GROWTH, growth))
    page_bytes = _MARGIN * many * (work.mean_area / large) ** growth + _EMPTIEST * work.mean_area
    return int(min(page_bytes, _DENSEST * work.mean_area + 1000)), (time.perf_counter() - began) / len(_SAMPLES)
