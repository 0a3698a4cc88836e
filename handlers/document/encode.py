"""How one drawn page becomes bytes: on its way into something else, or to stay."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from ..media.formats import format_of
from ..media.pictures import save, write_picture
from .options import DocumentPreviewOptions, layout_of

_QUICK, _SMALL = 1, 6
"""How hard a png is packed."""


def write_piece(picture: Image.Image, part: Path | BytesIO, options: DocumentPreviewOptions, output_file: Path) -> None:
    """Write a page as a piece: for a zip archive in its final form, else as a png that is read again soon."""
    if layout_of(output_file) != "zip":
        save(picture, part, "PNG", compress_level=_QUICK)
    elif options.page_format == "png":
        save(picture, part, "PNG", compress_level=_SMALL)
    else:
        write_picture(picture, part, options.page_format.upper(), quality=options.quality)


def write_output(
    picture: Image.Image, part: Path | BytesIO, options: DocumentPreviewOptions, output_file: Path
) -> None:
    """Write the only picture there is, in the format of the output's suffix."""
    write_picture(picture, part, format_of(output_file), quality=options.quality)
