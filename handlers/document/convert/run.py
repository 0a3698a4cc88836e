"""Makes a PDF of a document with LibreOffice, and takes pages of a PDF with PDFium."""

import shutil
from contextlib import closing
from pathlib import Path

import markdown_it
import pypdfium2

from ....events.counted import counted
from ...contract import Finished, TaskContext, Unusable
from ...media.result import output_fields
from ...pieces import Pieces, fingerprint
from ..html import markdown_html, text_html
from ..kinds import OFFICE, document_kind
from ..office import OfficePdf
from ..page_list import choose_pages
from ..pdf import PdfPages
from ..text import read_text
from .options import DocumentConvertOptions

_MOST_CHARACTERS = {"text": 4_000_000, "markdown": 1_000_000}
"""LibreOffice needs seconds and tens of MB for each million of a text, and ten times as much for Markdown."""
_PDF_MADE = 90.0
"""Percent of the work when LibreOffice has made its PDF."""


def run(context: TaskContext[DocumentConvertOptions]) -> Finished:
    """Make the PDF at `context.output_part`.

    Raises:
        Unusable: the document can never be converted as requested.
        OfficeFailedError: LibreOffice could not read it.
        OSError: a file cannot be read or written.
        StopAsked: the attempt must end.
    """
    source, listed = context.input_file, context.options.page_list
    kind = document_kind(source)
    notes: list[str] = []
    pdf = source
    if kind != "pdf":
        pieces = Pieces(context, _fingerprint(context, kind), stem="page", suffix=".piece")
        office = OfficePdf(context, pieces, kind if kind in OFFICE else "html", done=_PDF_MADE)
        pdf = office.path() if kind in OFFICE else office.path(_as_html(context, kind))
        notes = office.notes()
    context.check_stop()
    with closing(PdfPages(pdf, source.name)) as pages:
        count = pages.count
        numbers = choose_pages(listed, count, count)
        if numbers == list(range(1, count + 1)):
            shutil.copyfile(pdf, context.output_part)
            if kind == "pdf":
                notes.append("it is a PDF already, and all of its pages were asked for: it is copied as it is")
        else:
            context.progress(_PDF_MADE, f"taking {counted(len(numbers), 'page')} of {count}")
            notes += pages.lost()
            pages.save(numbers, context.output_part)
    result = output_fields(context.output_part, "pdf", width=0, height=0, frames=0)
    result |= {"pages": len(numbers), "source_format": kind, "source_pages": count}
    if notes:
        result["notes"] = notes
    return Finished(result=result, message=f"{len(numbers)} of {counted(count, 'page')}")


def _fingerprint(context: TaskContext[DocumentConvertOptions], kind: str) -> str:
    versions = [str(pypdfium2.PDFIUM_INFO), markdown_it.__version__]
    return fingerprint(context.input_file, kind, versions, version=context.input_version)


def _as_html(context: TaskContext[DocumentConvertOptions], kind: str) -> Path:
    """The text as a page of HTML, under the name of the input, which messages name. Raises Unusable."""
    source = context.input_file
    text = read_text(source, unseen=True)
    if len(text) > _MOST_CHARACTERS[kind]:
        raise Unusable(
            f"{source.name} has more than {counted(_MOST_CHARACTERS[kind], 'character')} of {kind}: split it, or draw "
            "its pages with document_preview"
        )
    html = (markdown_html if kind == "markdown" else text_html)(text, source.stem)
    folder = context.work_dir / "html"
    folder.mkdir(exist_ok=True)
    path = folder / source.name
    path.write_text(html, encoding="utf-8")
    return path
