"""What `doctor` says of PDFium and LibreOffice on this machine."""

from collections.abc import Iterator

import pypdfium2

from ..contract import Finding
from .libreoffice import INSTALL_LIBREOFFICE, find_libreoffice


def checkup() -> Iterator[Finding]:
    """Which PDFium there is, and whether office documents can be drawn."""
    yield Finding("media", "ok", f"PDFium {pypdfium2.PDFIUM_INFO}")
    if program := find_libreoffice():
        yield Finding("office", "ok", f"office documents are drawn by {program}")
    else:
        message = "LibreOffice is not there: of office documents only their own thumbnails can be shown"
        yield Finding("office", "warn", message, f"{INSTALL_LIBREOFFICE}, if office documents are to be drawn.")
