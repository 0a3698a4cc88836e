"""Estimates `document_convert` by the document's content."""

from contextlib import closing

from ...contract import Estimate, Job
from ..archive import inspect_archive
from ..kinds import OFFICE, PACKED, document_kind
from ..libreoffice import require_libreoffice
from ..page_list import choose_pages
from ..pdf import PdfPages
from .estimate import estimate_for
from .options import DocumentConvertOptions


def probe(job: Job[DocumentConvertOptions]) -> Estimate:
    """Estimate from the document itself.

    Raises:
        Unusable: it can never be converted as requested.
        OSError: it cannot be read.
    """
    kind = document_kind(job.input_file)
    if kind == "pdf":
        with closing(PdfPages(job.input_file)) as pages:
            chosen = choose_pages(job.options.page_list, pages.count, pages.count)
        return estimate_for("pdf", job.input_size, pages=len(chosen))
    require_libreoffice(job.input_file.name, kind)
    if kind in PACKED:
        inspect_archive(job.input_file)
    return estimate_for("office" if kind in OFFICE else "markdown" if kind == "markdown" else "text", job.input_size)
