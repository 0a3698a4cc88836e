"""Writes pages: one page by itself, or many as a contact sheet, a tiff, a zip archive or a folder.

The same pages give the same bytes.
"""

import shutil
import zipfile
from collections.abc import Generator, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from ....events.counted import counted
from ...contract import Unusable
from ...io_errors import writing
from ...media.formats import format_of
from ...media.pictures import save, write_picture
from .options import DocumentPreviewOptions, layout_of
from .sizes import MAX_PAGE_PIXELS, MAX_PAGE_SIDE, sheet_grid

_ALWAYS = (1980, 1, 1, 0, 0, 0)
"""The date of every part of a zip archive: the oldest possible one."""
_MODE = 0o100644 << 16
_TIFF_LIMIT = 4_000_000_000
"""Bytes; offsets in a tiff have 32 bits."""
_MAX_SHEET_SIDE = 16_000
"""Pixels; webp ends at 16383."""
_QUICK, _SMALL = 1, 6
"""Compression levels of a png."""


def write_piece(picture: Image.Image, part: Path | BytesIO, options: DocumentPreviewOptions, output_file: Path) -> None:
    """Write a page as a piece: in its final form for a zip archive or folder, otherwise as a temporary png."""
    if layout_of(output_file) not in ("zip", "folder"):
        save(picture, part, "PNG", compress_level=_QUICK)
    elif options.page_format == "png":
        save(picture, part, "PNG", compress_level=_SMALL)
    else:
        write_picture(picture, part, options.page_format.upper(), quality=options.quality)


def write_output(
    picture: Image.Image, part: Path | BytesIO, options: DocumentPreviewOptions, output_file: Path
) -> None:
    """Write the only picture, in the format of the output's suffix."""
    write_picture(picture, part, format_of(output_file), quality=options.quality)


class DrawnPage(NamedTuple):
    """A drawn page in a file."""

    number: int
    path: Path
    name: str = ""
    """The name of its file in the output, if each page has one."""


def write_folder(pages: Sequence[DrawnPage], folder: Path) -> Generator[int, None, None]:
    """Copy the files into a new folder. Yields the number of finished ones."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for done, page in enumerate(pages, 1):
        target = folder / page.name
        with writing(target):
            shutil.copyfile(page.path, target)
        yield done


def write_zip(pages: Sequence[DrawnPage], path: Path) -> Generator[int, None, None]:
    """Put the files into an archive, unchanged. Yields the number of finished ones."""
    with writing(path), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for done, page in enumerate(pages, 1):
            entry = zipfile.ZipInfo(page.name, _ALWAYS)
            entry.external_attr = _MODE
            entry.file_size = page.path.stat().st_size
            with page.path.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target)
            yield done


class _TiffFile(AppendingTiffWriter):
    """A writer that may be closed twice. `io` closes a collected file again, and Pillow's writer would seek in it."""

    def close(self) -> None:
        if not self.f.closed:
            super().close()


def write_tiff(pages: Sequence[DrawnPage], path: Path, dpi: float | None) -> Generator[int, None, None]:
    """Put the pictures into a tiff, a page each. Yields the number done. Raises Unusable if it gets too large."""
    resolution = {} if dpi is None else {"dpi": (dpi, dpi)}
    with writing(path), _TiffFile(path, new=True) as tiff:
        for done, page in enumerate(pages, 1):
            with Image.open(page.path, formats=("PNG",)) as picture:
                picture.save(tiff, format="TIFF", compression="tiff_adobe_deflate", **resolution)
            tiff.newFrame()
            if path.stat().st_size > _TIFF_LIMIT:
                raise Unusable(f"the pages make a tiff of more than {_TIFF_LIMIT / 1e9:.0f} GB: choose fewer, or a zip")
            yield done


class Sheet(NamedTuple):
    """The plan of a contact sheet: equal cells, in rows."""

    columns: int
    rows: int
    cell: tuple[int, int]
    gap: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole, in pixels."""
        width, height = self.cell
        return self.columns * (width + self.gap) + self.gap, self.rows * (height + self.gap) + self.gap


def plan_sheet(sizes: Sequence[tuple[int, int]], options: DocumentPreviewOptions) -> Sheet:
    """Lay out pages of these sizes in pixels. Raises Unusable if the sheet would be too large."""
    cell = max(width for width, _ in sizes), max(height for _, height in sizes)
    sheet = Sheet(*sheet_grid(len(sizes), cell, options.columns), cell, options.gap)
    width, height = sheet.size
    if width * height > MAX_PAGE_PIXELS or max(width, height) > min(MAX_PAGE_SIDE, _MAX_SHEET_SIDE):
        raise Unusable(
            f"the contact sheet of {counted(len(sizes), 'page')} would have {width}x{height} pixels, more than is "
            "drawn: choose fewer pages or a smaller width, or write a zip"
        )
    return sheet


def new_sheet(sheet: Sheet, background: str) -> Image.Image:
    """The sheet without its pages."""
    return Image.new("RGB", sheet.size, _shade(background))


def place_pages(whole: Image.Image, pages: Sequence[DrawnPage], sheet: Sheet) -> Generator[int, None, None]:
    """Paste the pictures onto the sheet, each centred in its cell. Yields the number of finished ones."""
    for place, page in enumerate(pages):
        row, column = divmod(place, sheet.columns)
        with Image.open(page.path, formats=("PNG",)) as picture:
            left = sheet.gap + column * (sheet.cell[0] + sheet.gap) + (sheet.cell[0] - picture.width) // 2
            top = sheet.gap + row * (sheet.cell[1] + sheet.gap) + (sheet.cell[1] - picture.height) // 2
            whole.paste(picture, (left, top))
        yield place + 1


def _shade(background: str) -> tuple[int, int, int]:
    """A colour slightly darker than the paper, so that the pages stand out."""
    red, green, blue = (int(background[start : start + 2], 16) * 7 // 8 for start in (1, 3, 5))
    return red, green, blue
