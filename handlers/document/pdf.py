"""The pages of a PDF, drawn by PDFium, which runs no scripts and opens no other file."""

import ctypes
import itertools
import logging
import math
import mmap
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from io import RawIOBase
from pathlib import Path
from typing import Any, NamedTuple

import pypdfium2
from PIL import Image, ImageColor
from pypdfium2.raw import (
    FLAT_NORMALDISPLAY,
    FLATTEN_FAIL,
    FORMTYPE_NONE,
    FORMTYPE_XFA_FULL,
    FPDF_ERR_PASSWORD,
    FPDF_ERR_SECURITY,
    FPDF_DocumentHasValidCrossReferenceTable,
    FPDF_GetSecurityHandlerRevision,
    FPDFPage_Flatten,
    FPDFText_GetFontInfo,
    FPDFText_GetFontSize,
    FPDFText_GetUnicode,
)

from ...events.counted import counted, plural
from ..contract import Unusable
from ..io_errors import error_text

logging.getLogger("pypdfium2").setLevel(logging.ERROR)  # of a form in XFA it advises another build of itself
_NOT_ENCRYPTED = -1
_LOCKED = (FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY)
_CHARACTER = re.compile("[\ud800-\udbff][\udc00-\udfff]|.", re.DOTALL)
_STREAM = re.compile(rb"\bstream\r?\n")
_CODE = re.compile(rb"<((?:[0-9A-Fa-f]{4})+)>")
_NO_PAGES = re.compile(rb"/Kids\s*\[\s*\]")
_SMALL = 1 << 16
_HUGE = 60_000_000
"""Bytes of a decoded picture; PDFium's own limit."""
_ONE_CHANNEL = frozenset({"CCITTFaxDecode", "JBIG2Decode"})
_TAIL = 1024
"""Bytes at the end of the file in which readers look for the end mark."""
_MOST_OBJECTS = 5000
"""Objects of a page that are examined for pictures."""
_FONT_NAME = 128
"""Bytes of the name of a font; a longer one is not given."""
_ROUNDED = 0.005
"""By how much a measured glyph may differ, in a size of 1."""


def _is_empty(path: Path) -> bool:
    """Whether a small file has an empty list of pages."""
    with path.open("rb") as file:
        return _NO_PAGES.search(file.read(_SMALL)) is not None


def _has_end(path: Path) -> bool:
    """Whether the end mark stands at the end of the file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return b"%%EOF" in file.read()


def characters_of_fonts(path: Path, wanted: re.Pattern[str]) -> set[str]:
    """The characters that `wanted` matches and that the fonts in a PDF from LibreOffice are there for.

    Each font has a table of the characters that its glyphs stand for (ToUnicode), 255 at most. To read these takes far
    less time than to read the pages, and they also name glyphs that draw nothing.
    """
    found: set[str] = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for stream in _STREAM.finditer(content):
            with suppress(zlib.error):
                packed = content[stream.end() : stream.end() + _SMALL]
                table = zlib.decompressobj().decompress(packed, _SMALL)
                if b"begincmap" in table:
                    codes = (bytes.fromhex(one.decode()) for one in _CODE.findall(table))
                    found.update(*(wanted.findall(code.decode("utf-16-be", "replace")) for code in codes))
    return found


def _font(text: pypdfium2.PdfTextPage, place: int) -> bytes:
    """The name of the font of a character. Empty if it has none."""
    name = ctypes.create_string_buffer(_FONT_NAME)
    FPDFText_GetFontInfo(text.raw, place, name, _FONT_NAME, None)
    return name.value


def _characters(text: pypdfium2.PdfTextPage) -> Iterator[tuple[int, str]]:
    """The characters of a page, each with its place. For PDFium, one beyond 16 bits is a pair of surrogates."""
    units = "".join(chr(FPDFText_GetUnicode(text.raw, place)) for place in range(text.count_chars()))
    for found in _CHARACTER.finditer(units):
        yield found.start(), found[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_of_size(text: pypdfium2.PdfTextPage, place: int, size: tuple[float, float]) -> bool:
    """Whether a character is drawn as wide and high as this, times the size of its font."""
    times = FPDFText_GetFontSize(text.raw, place)
    left, bottom, right, top = text.get_charbox(place)
    found = (right - left, top - bottom)
    return all(abs(one - times * other) <= times * _ROUNDED for one, other in zip(found, size, strict=True))


class _Search(RawIOBase):
    """A file that keeps nothing, and tells whether some bytes were written to it."""

    def __init__(self, wanted: bytes) -> None:
        super().__init__()
        self.found = False
        self._wanted = wanted
        self._end = b""

    def write(self, data: Any) -> int:
        """Look for the bytes, which may begin in what was written before."""
        seen = self._end + bytes(data)
        self.found |= self._wanted in seen
        self._end = seen[1 - len(self._wanted) :]
        return len(data)


class Glyph(NamedTuple):
    """A character as a page shows it."""

    character: str
    font: bytes
    """Its PostScript name, without the mark of a subset. Empty if the character has none."""
    is_box: bool
    """Whether it has the size of a box that was asked about."""


class PdfPages:
    """An open PDF.

    Raises:
        Unusable: it cannot be opened, or has no pages.
    """

    most = math.inf

    def __init__(self, path: Path, name: str = "") -> None:
        self._name = name or path.name
        try:
            self._pdf = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            whole = _has_end(path)
            if whole and _is_empty(path):  # PDFium then reports the last fault of any file, or none
                raise Unusable(f"{self._name} has no pages") from error
            if error.err_code in _LOCKED:
                raise Unusable(f"{self._name} is encrypted: save it without a password first") from error
            if not whole:
                raise Unusable(f"{self._name} was cut: it lacks the end mark of a PDF") from error
            raise Unusable(
                f"{self._name} cannot be opened by PDFium ({error_text(error)}): "
                "save it as a PDF again with another program"
            ) from error
        self.count = len(self._pdf)
        if not self.count:
            self.close()
            raise Unusable(f"{self._name} has no pages")
        self._pdf.init_forms()

    def notes(self, _numbers: list[int]) -> list[str]:
        """Notes on what no page shows, and one if PDFium had to search for the file's parts."""
        notes = []
        if not FPDF_DocumentHasValidCrossReferenceTable(self._pdf.raw):
            table = "the table that says where the document's parts are is missing or wrong, as in a file that was cut"
            notes.append(f"{table}: what could be found is drawn, something may be missing")
        if self._pdf.get_formtype() == FORMTYPE_XFA_FULL:
            notes.append("its form is in XFA, which is not drawn: the pages may only ask for another program")
        if files := self._pdf.count_attachments():
            notes.append(f"{counted(files, 'file')} inside the PDF {plural(files, 'is', 'are')} not drawn")
        return notes

    def glyphs(
        self, wanted: re.Pattern[str], boxes: Sequence[tuple[float, float]], tick: Callable[[], None]
    ) -> set[Glyph]:
        """The characters that the pages show, of those wanted.

        Args:
            wanted: matches each of them, and no longer text.
            boxes: the width and height, in a size of 1, of what the font in question may have for all that it lacks.
            tick: called for each page; it may raise.
        """
        found: set[Glyph] = set()
        for page in self._pdf:
            tick()
            text = page.get_textpage()
            if wanted.search(text.get_text_range()):
                found.update(
                    Glyph(
                        character,
                        _font(text, place),
                        is_box=any(_is_of_size(text, place, box) for box in boxes),
                    )
                    for place, character in _characters(text)
                    if wanted.fullmatch(character)
                )
            text.close()
            page.close()
        return found

    def lost(self) -> list[str]:
        """Notes on what a PDF of some of the pages does not have."""
        notes = []
        if self._pdf.get_formtype() != FORMTYPE_NONE:
            notes.append("its form is on the pages as it looked, and can no longer be filled in")
        if any(True for _ in self._pdf.get_toc(max_depth=1)):
            notes.append("the table of contents (bookmarks) is left out: it names pages of the whole document")
        if files := self._pdf.count_attachments():
            notes.append(f"{counted(files, 'file')} inside the PDF {plural(files, 'is', 'are')} left out")
        return notes

    def save(self, numbers: list[int], path: Path) -> None:
        """Write a PDF of these pages, as they look. Raises Unusable.

        What says which layers are hidden, and what makes a form of its fields, belongs to the whole document.
        """
        if FPDF_GetSecurityHandlerRevision(self._pdf.raw) != _NOT_ENCRYPTED:
            raise Unusable(
                f"{self._name} is protected by a password of its owner: save it without one first, or ask for all pages"
            )
        if self._has_layers():
            raise Unusable(
                f"{self._name} has layers, and pages that are taken from it would show hidden ones: ask for all pages, "
                "or draw them with document_preview"
            )
        with closing(pypdfium2.PdfDocument.new()) as chosen:
            try:
                if self._pdf.get_formtype() != FORMTYPE_NONE:
                    self._flatten(numbers)
                chosen.import_pages(self._pdf, [number - 1 for number in numbers])
            except pypdfium2.PdfiumError as error:
                raise Unusable(f"pages of {self._name} cannot be taken: {error_text(error)}") from error
            chosen.save(path)

    def _has_layers(self) -> bool:
        searched = _Search(b"/OCProperties")
        self._pdf.save(searched)  # the file itself may have it in a compressed part
        return searched.found

    def _flatten(self, numbers: list[int]) -> None:
        for number in numbers:
            page = self._pdf[number - 1]
            try:
                if FPDFPage_Flatten(page.raw, FLAT_NORMALDISPLAY) == FLATTEN_FAIL:
                    raise Unusable(f"the form on page {number} of {self._name} cannot be drawn")
            finally:
                page.close()

    def close(self) -> None:
        """Release the file."""
        self._pdf.close()

    def size(self, number: int) -> tuple[float, float]:
        """Displayed width and height of a page in points. Raises Unusable."""
        try:
            width, height = self._pdf.get_page_size(number - 1)
        except pypdfium2.PdfiumError as error:
            raise Unusable(f"page {number} of {self._name} cannot be read: {error}") from error
        if not (width > 0 and height > 0):
            raise Unusable(f"page {number} of {self._name} shows nothing: its crop box lies outside of the page")
        return float(width), float(height)

    def picture_bytes(self, number: int, factor: float) -> int:
        """Bytes of memory for the largest picture on a page that is drawn at `factor` pixels per point.

        PDFium decodes a picture as a whole, or, if it is huge, at the width in which it is drawn.
        """
        most = 0
        try:
            page = self._pdf[number - 1]
            try:
                drawn_width = math.ceil(page.get_width() * factor)
                for found in itertools.islice(page.get_objects(), _MOST_OBJECTS):
                    if isinstance(found, pypdfium2.PdfImage):
                        width, height = found.get_px_size()
                        size = 1 if _ONE_CHANNEL & set(found.get_filters()) else 3
                        whole = size * width * height
                        most = max(most, whole if whole <= _HUGE else size * height * min(width, drawn_width))
            finally:
                page.close()
        except pypdfium2.PdfiumError:
            pass  # drawing will report it
        return most

    def draw(self, number: int, factor: float, background: str) -> Image.Image:
        """Draw a page at `factor` pixels per point. Raises Unusable."""
        colour = (*ImageColor.getrgb(background)[:3], 255)
        try:
            page = self._pdf[number - 1]
            try:
                bitmap = page.render(scale=factor, fill_color=colour, limit_image_cache=True)
            finally:
                page.close()
        except pypdfium2.PdfiumError as error:
            raise Unusable(f"page {number} of {self._name} cannot be drawn: {error}") from error
        try:
            picture: Image.Image = bitmap.to_pil()
        finally:
            bitmap.close()
        return picture
