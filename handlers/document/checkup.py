"""The diagnoses of `doctor` about PDFium, fonts and LibreOffice on this machine."""

from collections.abc import Iterator

import pypdfium2

from ..contract import Diagnosis
from .fonts import INSTALL_FONTS, font_file
from .libreoffice import INSTALL_LIBREOFFICE, find_libreoffice


def checkup() -> Iterator[Diagnosis]:
    """Report which PDFium there is, which font draws text, and whether there is LibreOffice."""
    yield Diagnosis("media", "ok", f"PDFium {pypdfium2.PDFIUM_INFO}")
    if font := font_file("plain"):
        yield Diagnosis("fonts", "ok", f"text documents and burned subtitles are drawn with {font}")
    else:
        message = (
            "no font was found that text documents and burned subtitles are drawn with: letters beyond ASCII become "
            "boxes, and bold, italic and code look like the rest"
        )
        yield Diagnosis("fonts", "warn", message, f"{INSTALL_FONTS}, if more than plain English is to be drawn.")
    if program := find_libreoffice():
        yield Diagnosis("office", "ok", f"office documents are drawn, and documents become PDFs, by {program}")
    else:
        message = (
            "LibreOffice is not there: office documents show only their own thumbnails, and no document becomes a PDF"
        )
        remedy = f"{INSTALL_LIBREOFFICE}, if office documents are to be drawn, or documents to become PDFs."
        yield Diagnosis("office", "warn", message, remedy)
