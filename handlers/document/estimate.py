"""What `document_preview` needs. Light: the service imports this; the worker calls it again when it has looked."""

from typing import Any

from ..contract import Estimate
from .options import DocumentPreviewOptions
from .page_list import most_pages
from .sizes import PAGE_BOX, choose_scale, pixels

A4 = (595.0, 842.0)
_BYTES_A_PAGE = 4_000
"""Of a PDF of text; the guess for how many pages a file can have."""


def estimate(options: DocumentPreviewOptions, input_size: int) -> Estimate:
    """Guess from the file size alone: a PDF of A4 pages. Looking into it makes it better, in the worker."""
    pages = min(most_pages(options.pages, options.max_pages), max(1, input_size // _BYTES_A_PAGE))
    width, height = pixels(*A4, choose_scale(*A4, options, PAGE_BOX).factor)
    return needs("pdf", input_size, pages, [width * height])


def needs(kind: str, input_size: int, pages: int, areas: list[int], **basis: Any) -> Estimate:
    """The estimate for so many pages of these areas in pixels (one for all, or one each)."""
    raise NotImplementedError(kind, input_size, pages, areas, basis)
