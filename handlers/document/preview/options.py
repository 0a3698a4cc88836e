"""The options of `document_preview`, and its list of pages. No image library here: the service imports this."""

from pathlib import PurePath
from typing import Annotated, Literal, TypeAlias

import msgspec

from ....events.errors import InvalidPath
from ...contract import Job
from ...media.formats import WRITE_FORMATS
from ..kinds import office_suffix
from ..libreoffice import INSTALL_LIBREOFFICE, find_libreoffice
from ..page_list import PageList, parse_pages
from .naming import PageNames

PAGE_CAP = 10_000
ARCHIVES = (".zip",)
MULTI_PAGE = (".tif", ".tiff")

_Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=20_000)]
Layout: TypeAlias = Literal["picture", "tiff", "zip", "folder"]
USUAL_PAGE_NAME = "page-{page}"


class DocumentPreviewOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `document_preview`. The output's suffix says whether a picture, a tiff or a zip is written."""

    pages: PageList = "1"
    dpi: Annotated[
        Annotated[float, msgspec.Meta(ge=1, le=2400)] | None, msgspec.Meta(description="Instead of width and height.")
    ] = None
    width: Annotated[_Side | None, msgspec.Meta(description="Of the box a page is fitted into, in pixels.")] = None
    height: Annotated[_Side | None, msgspec.Meta(description="Of the box a page is fitted into, in pixels.")] = None
    columns: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=100)] | None,
        msgspec.Meta(description="Of a contact sheet; none: about as many as rows."),
    ] = None
    gap: Annotated[int, msgspec.Meta(ge=0, le=500, description="Pixels round each page of a contact sheet.")] = 12
    page_format: Annotated[
        Literal["png", "jpeg", "webp"], msgspec.Meta(description="Of the pictures in a folder or zip archive.")
    ] = "png"
    page_name: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=200,
            extra_json_schema={"pattern": r"\{page(:0?[0-9]{0,2})?\}"},
            description="What a page is called in a folder or zip archive, without its suffix: {page} is its number, "
            "with as many digits as the last one has, {page:04} has four, {stem} is the document's name.",
        ),
    ] = USUAL_PAGE_NAME
    quality: Annotated[int, msgspec.Meta(ge=1, le=100, description="For jpeg, webp and avif.")] = 85
    background: Annotated[
        str, msgspec.Meta(pattern="^#[0-9a-fA-F]{6}$", description="Colour of the paper, as #rrggbb.")
    ] = "#ffffff"
    max_pages: Annotated[
        int, msgspec.Meta(ge=1, le=PAGE_CAP, description="More pages than this are refused, not left out.")
    ] = 500
    office: Annotated[
        Literal["libreoffice", "thumbnail", "auto"],
        msgspec.Meta(
            description="How office documents are drawn. libreoffice: every page, by LibreOffice. thumbnail: the small "
            "picture of the first page that most of them carry. auto: LibreOffice where it is installed. "
            f"On this machine: {find_libreoffice() or 'not installed'}."
        ),
    ] = "libreoffice"

    def __post_init__(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ValueError: msgspec turns it into a `ValidationError`.
        """
        if self.dpi is not None and (self.width is not None or self.height is not None):
            raise ValueError("dpi cannot be combined with width or height: give one of them")
        parse_pages(self.page_list)
        PageNames(self.page_name)

    @property
    def page_list(self) -> str:
        """The pages as text, even if one number was given."""
        return str(self.pages)


def format_name(output_file: PurePath) -> str:
    """The output's format, under the name that all types use: `jpeg` and `tiff`, whatever the suffix."""
    suffix = output_file.suffix.lower()
    if suffix in MULTI_PAGE:
        return "tiff"
    return WRITE_FORMATS.get(suffix, suffix.removeprefix(".")).lower() or "folder"


def layout_of(output_file: PurePath) -> Layout:
    """The form that the output's suffix means; without a suffix, a folder. Raises InvalidPath if it means none."""
    suffix = output_file.suffix.lower()
    if "{page" in output_file.name:
        raise InvalidPath(
            f"A task has one output, and {output_file.name!r} means several",
            field="output_file",
            remedy="Name a folder that is not there yet, and give the option page_name.",
        )
    if not suffix:
        return "folder"
    if suffix in ARCHIVES:
        return "zip"
    if suffix in MULTI_PAGE:
        return "tiff"
    if suffix in WRITE_FORMATS:
        return "picture"
    suffixes = dict.fromkeys([*WRITE_FORMATS, *MULTI_PAGE, *ARCHIVES])
    raise InvalidPath(
        f"Pages cannot be written to {output_file.name!r}",
        field="output_file",
        remedy=f"Give it one of the suffixes {', '.join(suffixes)}, or none for a folder with a file for each page.",
    )


def check(job: Job[DocumentPreviewOptions]) -> None:
    """Raise InvalidPath if the output cannot be written, or the input needs LibreOffice, which is not installed."""
    layout_of(job.output_file)
    if office_suffix(job.input_file) and job.options.office == "libreoffice" and find_libreoffice() is None:
        raise InvalidPath(
            f"{job.input_file.name!r} needs LibreOffice, which is not on this machine",
            field="input_file",
            remedy=f"{INSTALL_LIBREOFFICE}; or set the option office to thumbnail.",
        )
