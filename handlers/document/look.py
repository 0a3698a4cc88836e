"""A look into the document before the work begins, for a better estimate: one page is drawn small, and weighed."""

import time
from contextlib import closing
from io import BytesIO
from pathlib import Path

from ..contract import Estimate
from .archive import ThumbnailPage, inspect_archive
from .estimate import A4, needs, workload
from .kinds import PACKED, kind_of
from .office import require_libreoffice
from .options import DocumentPreviewOptions
from .page_list import choose_pages, most_pages
from .pdf import PdfPages
from .sizes import choose_scale
from .sources import Pages, renderer_of
from .text import TextPages

_SAMPLE_BOX = 256
"""Pixels. Small, because a sample costs a page's decoding anyway."""
_SPARSER = 0.8
"""A large picture has fewer bytes a pixel than a small one of the same page."""
_DENSEST = 3.0
_OFFICE_PAGE = 2_000
"""Bytes of a packed office document, a page."""
_OFFICE_RATE = 0.2


def look(options: DocumentPreviewOptions, path: Path) -> Estimate:
    """The estimate for this document.

    Raises:
        Unusable: it can never be drawn as asked.
        OSError: it cannot be read.
    """
    kind = kind_of(path)
    match renderer_of(kind, options):
        case "pdfium":
            return _drawn(PdfPages(path), kind, options, extra=8_000_000)
        case "text":
            return _drawn(TextPages(path, markdown=kind == "markdown"), kind, options, extra=12 * path.stat().st_size)
        case "thumbnail":
            return _drawn(ThumbnailPage(path), kind, options, extra=0)
    require_libreoffice(path.name)
    if kind in PACKED:
        inspect_archive(path)
    size = path.stat().st_size
    pages = min(most_pages(options.pages, options.max_pages), 1 + size // _OFFICE_PAGE)
    work = workload(options, pages, A4, rate=_OFFICE_RATE)
    basis = {"kind": kind, "pages": pages}
    return needs(work, basis, office=True, extra=2 * size)


def _drawn(pages: Pages, kind: str, options: DocumentPreviewOptions, extra: int) -> Estimate:
    began = time.perf_counter()
    with closing(pages):
        numbers = choose_pages(options.pages, pages.count, options.max_pages)
        sizes = [pages.size(number) for number in numbers]
        opening = time.perf_counter() - began
        largest = max(range(len(numbers)), key=lambda place: sizes[place][0] * sizes[place][1])
        rate, seconds = _weigh(pages, numbers[0], options)
        work = workload(options, len(numbers), sizes[largest], rate=rate, opening=0.05 + opening, page_seconds=seconds)
        width, height = sizes[largest]
        basis = {
            "kind": kind,
            "pages": len(numbers),
            "document_pages": pages.count,
            "width": round(width, 1),
            "height": round(height, 1),
        }
    return needs(work, basis, office=False, extra=extra)


def _weigh(pages: Pages, number: int, options: DocumentPreviewOptions) -> tuple[float, float]:
    """Bytes a pixel of the packed picture, and seconds to draw it, by a small one of the first page."""
    began = time.perf_counter()
    scale = choose_scale(*pages.size(number), DocumentPreviewOptions(), _SAMPLE_BOX, pages.most)
    picture = pages.draw(number, scale.factor, options.background)
    packed = BytesIO()
    picture.save(packed, format="PNG", compress_level=1)
    rate = _SPARSER * packed.tell() / (picture.width * picture.height)
    return min(rate, _DENSEST), time.perf_counter() - began
