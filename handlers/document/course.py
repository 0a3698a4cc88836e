"""The course of `document_preview`: open (an office document becomes a PDF first), draw page by page, put together.

Each drawn page is a piece: the next attempt takes those that are whole and draws the others.
"""

from contextlib import closing
from typing import Any

import msgspec
import PIL
import pypdfium2
from PIL import Image

from ..contract import Finished, Outcome, Stopped, TaskContext
from ..image.formats import format_of
from ..image.writing import write_picture
from ..pieces import Pieces, fingerprint, settled
from .compose import Page, Sheet, draw_sheet, plan_sheet, write_tiff, write_zip
from .errors import StopAskedError
from .fonts import font_names
from .kinds import kind_of
from .options import DocumentPreviewOptions, layout_of
from .page_list import choose_pages
from .sizes import PAGE_BOX, TILE_BOX, Scale, choose_scale, pixels
from .sources import OFFICE_SHARE, Pages, open_pages, renderer_of

DRAWN_UNTIL = 90.0
_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
_QUICK, _SMALL = 1, 6
"""How hard a png is packed: pages on their way into something else, and pages that stay."""


def preview(context: TaskContext[DocumentPreviewOptions]) -> Outcome:
    """Draw pages of `context.input_file` into `context.output_part`, going on from `context.checkpoint`.

    Raises:
        Unusable: the document can never be drawn as asked.
        OfficeFailedError: LibreOffice could not read it.
        OSError: a file cannot be read or written.
    """
    try:
        return _Preview(context).run()
    except StopAskedError:
        context.output_part.unlink(missing_ok=True)
        return Stopped()


class _Preview:
    """One attempt."""

    def __init__(self, context: TaskContext[DocumentPreviewOptions]) -> None:
        self._context = context
        self._options = context.options
        self._layout = layout_of(context.output_file)
        self._kind = kind_of(context.input_file)
        self._renderer = renderer_of(self._kind, self._options)
        self._reduced = 0
        self._pieces = Pieces(context, self._fingerprint(), stem="page", suffix=".piece")

    def _fingerprint(self) -> str:
        versions = [str(pypdfium2.PYPDFIUM_INFO), str(pypdfium2.PDFIUM_INFO), PIL.__version__]
        look = font_names() if self._renderer == "text" else []
        decided = (msgspec.to_builtins(self._options), self._layout, self._kind, self._renderer)
        return fingerprint(self._context.input_file, *decided, versions, look)

    def run(self) -> Outcome:
        """Do what is left to do."""
        with closing(open_pages(self._context, self._kind, self._renderer, self._pieces)) as pages:
            numbers = choose_pages(self._options.pages, pages.count, self._options.max_pages)
            scales = self._scales(pages, numbers)
            sizes = [pixels(*pages.size(number), scales[number].factor) for number in numbers]
            self._reduced = sum(scale.reduced for scale in scales.values())
            sheet = self._sheet(sizes)
            if self._layout == "picture" and sheet is None:
                self._stop_if_asked()
                picture = pages.draw(numbers[0], scales[numbers[0]].factor, self._options.background)
                self._write_picture(picture)
                return self._finish(picture.size, pages.count, 1)
            for done, number in enumerate(numbers, 1):
                self._draw(pages, number, scales[number], done / len(numbers), f"page {done} of {len(numbers)}")
            count = pages.count
        self._pieces.save(DRAWN_UNTIL, "all pages are drawn")
        self._compose([Page(number, self._pieces.path(number)) for number in numbers], sheet)
        largest = max(sizes, key=lambda size: size[0] * size[1])
        return self._finish(sheet.size if sheet else largest, count, len(numbers))

    def _scales(self, pages: Pages, numbers: list[int]) -> dict[int, Scale]:
        box = TILE_BOX if self._layout == "picture" and len(numbers) > 1 else PAGE_BOX
        return {number: choose_scale(*pages.size(number), self._options, box, pages.most) for number in numbers}

    def _sheet(self, sizes: list[tuple[int, int]]) -> Sheet | None:
        """The plan, where several pages go into one picture: before any is drawn, because it may be refused."""
        if self._layout != "picture" or len(sizes) == 1:
            return None
        return plan_sheet(sizes, self._options.columns, self._options.gap)

    def _stop_if_asked(self) -> None:
        if self._context.should_stop():
            raise StopAskedError

    def _draw(self, pages: Pages, number: int, scale: Scale, share: float, message: str) -> None:
        self._stop_if_asked()
        if number in self._pieces:
            return
        picture = pages.draw(number, scale.factor, self._options.background)
        part = self._pieces.part(number)
        if self._layout != "zip":
            picture.save(part, format="PNG", compress_level=_QUICK)
        elif self._options.page_format == "png":
            picture.save(part, format="PNG", compress_level=_SMALL)
        else:
            write_picture(picture, part, self._options.page_format.upper(), quality=self._options.quality)
        begun = OFFICE_SHARE if self._renderer == "libreoffice" else 0.0
        self._pieces.keep(number, begun + (DRAWN_UNTIL - begun) * share, message)

    def _compose(self, pages: list[Page], sheet: Sheet | None) -> None:
        part = self._context.output_part
        if sheet is not None:
            for done, whole in enumerate(draw_sheet(pages, sheet, self._options.background), 1):
                self._tell(done, len(pages))
            self._write_picture(whole)
            return
        if self._layout == "zip":
            steps = write_zip(pages, part, _SUFFIXES[self._options.page_format])
        else:
            steps = write_tiff(pages, part, self._options.dpi)
        for done in steps:
            self._tell(done, len(pages))

    def _tell(self, done: int, count: int) -> None:
        self._stop_if_asked()
        self._context.progress(DRAWN_UNTIL + 9 * done / count, f"putting together, page {done} of {count}")

    def _write_picture(self, picture: Image.Image) -> None:
        kind = format_of(self._context.output_file)
        write_picture(picture, self._context.output_part, kind, quality=self._options.quality)

    def _finish(self, size: tuple[int, int], count: int, drawn: int) -> Finished:
        length, digest = settled(self._context.output_part)
        result: dict[str, Any] = {
            "size": length,
            "width": size[0],
            "height": size[1],
            "format": self._context.output_file.suffix.lower().removeprefix("."),
            "pages": drawn,
            "document_pages": count,
            "source": self._kind,
            "renderer": self._renderer,
            "sha256": digest,
        }
        if self._reduced:
            result["reduced_pages"] = self._reduced
        return Finished(result=result, message=f"{drawn} of {count} pages")
