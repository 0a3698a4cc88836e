"""Draws a document: opens it (LibreOffice may first make a PDF of it), draws page by page, puts the pages together.

Each drawn page is a piece: the next attempt takes the intact ones and draws the others.
"""

from contextlib import closing

import markdown_it
import msgspec
import PIL
import pypdfium2

from ....events.counted import counted
from ...contract import Finished, TaskContext, Unusable
from ...media.result import output_fields
from ...pieces import Pieces, fingerprint
from ..fonts import font_names
from ..kinds import document_kind
from ..office import OfficePdf
from ..page_list import choose_pages
from ..pages import Pages, pixels
from ..pdf import PdfPages
from ..text import TextPages
from ..thumbnail import ThumbnailPage
from .compose import (
    DrawnPage,
    Sheet,
    new_sheet,
    place_pages,
    plan_sheet,
    write_folder,
    write_output,
    write_piece,
    write_tiff,
    write_zip,
)
from .estimate import renderer_of
from .naming import PageNames
from .options import DocumentPreviewOptions, format_name, layout_of
from .sizes import Scale, choose_scale, default_box, most_side

_PDF_MADE = 30.0
"""Percent of the work when LibreOffice has made its PDF."""
_ALL_DRAWN = 90.0
"""Percent of the work when all pages are drawn."""
_LISTED = 32 * 1024
"""Bytes of JSON that the names in a result may have. A result has room for twice as many."""
_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def run(context: TaskContext[DocumentPreviewOptions]) -> Finished:
    """Draw pages of `context.input_file` into `context.output_part`, continuing from `context.checkpoint`.

    Raises:
        Unusable: the document can never be drawn as requested.
        OfficeFailedError: LibreOffice could not read it.
        OSError: a file cannot be read or written.
        StopAsked: the attempt must end.
    """
    return _Preview(context).run()


class _Preview:
    """One attempt."""

    def __init__(self, context: TaskContext[DocumentPreviewOptions]) -> None:
        self._context = context
        self._options = context.options
        self._layout = layout_of(context.output_file)
        self._kind = document_kind(context.input_file)
        self._renderer = renderer_of(self._kind, self._options)
        self._reduced = 0
        self._notes: list[str] = []
        self._broken: list[str] = []
        self._pieces = Pieces(context, self._fingerprint(), stem="page", suffix=".piece")

    def _fingerprint(self) -> str:
        versions = [str(pypdfium2.PYPDFIUM_INFO), str(pypdfium2.PDFIUM_INFO), PIL.__version__]
        fonts = font_names() if self._renderer == "text" else []
        if self._kind == "markdown":
            versions.append(markdown_it.__version__)
        decided = (msgspec.to_builtins(self._options), self._layout, self._kind, self._renderer)
        version = self._context.input_version
        return fingerprint(self._context.input_file, *decided, versions, fonts, version=version)

    def run(self) -> Finished:
        """Do the remaining work."""
        with closing(self._open()) as pages:
            numbers = choose_pages(self._options.page_list, pages.count, self._options.max_pages)
            box = default_box(self._layout, len(numbers))
            side = most_side(self._context.output_file, self._options)
            scales = [choose_scale(*pages.size(number), self._options, box, pages.most, side) for number in numbers]
            sizes = [pixels(*pages.size(number), scale.factor) for number, scale in zip(numbers, scales, strict=True)]
            self._notes = self._broken + pages.notes(numbers)
            self._reduced = sum(scale.reduced for scale in scales)
            if self._layout == "picture" and len(numbers) == 1:
                return self._only_page(pages, numbers[0], scales[0])
            # Planned before any page is drawn, because it may be refused.
            sheet = plan_sheet(sizes, self._options) if self._layout == "picture" else None
            self._draw(pages, numbers, scales)
            count = pages.count
        drawn = [
            DrawnPage(number, self._pieces.path(number), name)
            for number, name in zip(numbers, self._names(numbers), strict=True)
        ]
        self._compose(drawn, sheet)
        largest = max(sizes, key=lambda size: size[0] * size[1])
        return self._finish(sheet.size if sheet else largest, count, drawn)

    def _names(self, numbers: list[int]) -> list[str]:
        """The names of the pages' files, if each page has one. Raises Unusable."""
        if self._layout not in ("zip", "folder"):
            return [""] * len(numbers)
        names, stem = PageNames(self._options.page_name), self._context.input_file.stem
        suffix = _SUFFIXES[self._options.page_format]
        try:
            return [names.of(number, max(numbers), stem) + suffix for number in numbers]
        except ValueError as error:
            raise Unusable(f"{error}: give another page_name") from error

    def _open(self) -> Pages:
        path = self._context.input_file
        match self._renderer:
            case "pdfium":
                return PdfPages(path)
            case "text":
                return TextPages(path, markdown=self._kind == "markdown")
            case "thumbnail":
                return ThumbnailPage(path)
        office = OfficePdf(self._context, self._pieces, self._kind, done=_PDF_MADE)
        pdf = office.path()
        self._broken = office.notes()
        return PdfPages(pdf, path.name)

    def _only_page(self, pages: Pages, number: int, scale: Scale) -> Finished:
        """Draw the only page. It is not kept as a piece: drawing it again is as fast as checking the piece."""
        self._context.check_stop()
        self._context.progress(_PDF_MADE, f"page {number} of {pages.count}")
        picture = pages.draw(number, scale.factor, self._options.background)
        write_output(picture, self._context.output_part, self._options, self._context.output_file)
        return self._finish(picture.size, pages.count, [DrawnPage(number, self._context.output_part)])

    def _draw(self, pages: Pages, numbers: list[int], scales: list[Scale]) -> None:
        """Draw the missing pages."""
        begun = _PDF_MADE if self._renderer == "libreoffice" else 0.0
        for done, (number, scale) in enumerate(zip(numbers, scales, strict=True), 1):
            if number in self._pieces:
                continue
            self._context.check_stop()
            picture = pages.draw(number, scale.factor, self._options.background)
            write_piece(picture, self._pieces.part(number), self._options, self._context.output_file)
            percent = begun + (_ALL_DRAWN - begun) * done / len(numbers)
            self._pieces.keep(number, percent, f"page {done} of {len(numbers)}")
        self._pieces.save(_ALL_DRAWN, "all pages are drawn")

    def _compose(self, pages: list[DrawnPage], sheet: Sheet | None) -> None:
        part = self._context.output_part
        if sheet is not None:
            whole = new_sheet(sheet, self._options.background)
            steps = place_pages(whole, pages, sheet)
        elif self._layout == "zip":
            steps = write_zip(pages, part)
        elif self._layout == "folder":
            steps = write_folder(pages, part)
        else:
            steps = write_tiff(pages, part, self._options.dpi)
        with closing(steps):
            for done in steps:
                self._context.check_stop()
                percent = _ALL_DRAWN + 9 * done / len(pages)
                self._context.progress(percent, f"putting together, page {done} of {len(pages)}")
        if sheet is not None:
            write_output(whole, part, self._options, self._context.output_file)

    def _finish(self, size: tuple[int, int], count: int, pages: list[DrawnPage]) -> Finished:
        drawn = len(pages)
        result = output_fields(
            self._context.output_part,
            format_name(self._context.output_file),
            width=size[0],
            height=size[1],
            frames=1 if self._layout == "picture" else drawn,
            codec=self._options.page_format if self._layout in ("zip", "folder") else "",
        )
        if self._layout in ("zip", "folder"):
            result["files"] = _listed([page.name for page in pages])
            if len(result["files"]) < drawn:
                self._notes.append(f"files has the first {len(result['files']):,} of {drawn:,} names")
        result |= {
            "pages": drawn,
            "renderer": self._renderer,
            "source_format": self._kind,
            "source_pages": count,
        }
        if self._reduced:
            result["reduced_pages"] = self._reduced
        if self._notes:
            result["notes"] = self._notes
        return Finished(result=result, message=f"{drawn} of {counted(count, 'page')}")


def _listed(names: list[str]) -> list[str]:
    """The first of the names, as many as a result can hold."""
    room = _LISTED
    for place, name in enumerate(names):
        room -= len(msgspec.json.encode(name)) + 1
        if room < 0:
            return names[:place]
    return names
