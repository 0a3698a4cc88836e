"""A document as pages that can be drawn, whatever it is."""

import shutil
from typing import Protocol

from PIL import Image

from ..contract import TaskContext
from ..pieces import Pieces
from .archive import ThumbnailPage
from .estimate import will_use_libreoffice
from .kinds import OFFICE
from .office import convert_to_pdf
from .options import DocumentPreviewOptions
from .pdf import PdfPages
from .text import TextPages

PDF_PIECE = 0
"""The number under which the PDF of an office document is kept; pages have theirs, from 1."""
OFFICE_SHARE = 30.0
"""Percent of the work, when LibreOffice has made its PDF."""


class Pages(Protocol):
    """An open document. Pages count from 1."""

    count: int
    most: float
    """Pixels a point that make sense at most."""

    def close(self) -> None:
        """Release it."""

    def size(self, number: int) -> tuple[float, float]:
        """Width and height in points. Raises Unusable."""

    def draw(self, number: int, factor: float, background: str) -> Image.Image:
        """A picture of mode RGB, at so many pixels a point. Raises Unusable."""


def renderer_of(kind: str, options: DocumentPreviewOptions) -> str:
    """What draws the pages: pdfium, text, libreoffice or thumbnail."""
    if kind in OFFICE:
        return "libreoffice" if will_use_libreoffice(options) else "thumbnail"
    return "pdfium" if kind == "pdf" else "text"


def open_pages(context: TaskContext[DocumentPreviewOptions], kind: str, renderer: str, pieces: Pieces) -> Pages:
    """Open the input. LibreOffice may have to make a PDF of it first.

    Raises:
        Unusable: it cannot be drawn.
        OfficeFailedError: LibreOffice could not read it.
        StopAskedError: somebody wants the attempt to end.
    """
    path = context.input_file
    match renderer:
        case "pdfium":
            return PdfPages(path)
        case "text":
            return TextPages(path, markdown=kind == "markdown")
        case "thumbnail":
            return ThumbnailPage(path)
    if PDF_PIECE not in pieces:
        _make_pdf(context, kind, pieces)
    return PdfPages(pieces.path(PDF_PIECE), path.name)


def _make_pdf(context: TaskContext[DocumentPreviewOptions], kind: str, pieces: Pieces) -> None:
    context.progress(0, f"LibreOffice reads {context.input_file.name}")
    folder = context.work_dir / "office"
    try:
        pdf = convert_to_pdf(context.input_file, kind, folder, context.should_stop)
        pdf.replace(pieces.part(PDF_PIECE))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    pieces.keep(PDF_PIECE, OFFICE_SHARE, "LibreOffice is done")
    pieces.save(OFFICE_SHARE, "LibreOffice is done")
