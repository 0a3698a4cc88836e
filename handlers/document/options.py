"""What `document_preview` can be told. No library of documents or pictures here: the service imports this."""

from pathlib import PurePath
from typing import Annotated, Literal, TypeAlias

import msgspec

from ...events.errors import InvalidPath
from ..contract import Job
from ..media.formats import WRITE_FORMATS
from .kinds import office_suffix
from .libreoffice import HOW_TO_INSTALL, find_libreoffice
from .page_list import parse_pages

PAGE_CAP = 10_000
ARCHIVES = (".zip",)
MULTI_PAGE = (".tif", ".tiff")

Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=20_000)]
Layout: TypeAlias = Literal["picture", "tiff", "zip"]


class DocumentPreviewOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `document_preview` can be told. The form is that of the output's suffix."""

    pages: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | Annotated[str, msgspec.Meta(max_length=1000)],
        msgspec.Meta(description='A number, or like "1-3,7", "5-" or "all".'),
    ] = "1"
    dpi: Annotated[
        Annotated[float, msgspec.Meta(ge=1, le=2400)] | None, msgspec.Meta(description="Instead of width and height.")
    ] = None
    width: Annotated[Side | None, msgspec.Meta(description="Of the box a page is fitted into, in pixels.")] = None
    height: Annotated[Side | None, msgspec.Meta(description="Of the box a page is fitted into, in pixels.")] = None
    columns: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=100)] | None,
        msgspec.Meta(description="Of a contact sheet; none: about as many as rows."),
    ] = None
    gap: Annotated[int, msgspec.Meta(ge=0, le=500, description="Pixels round each page of a contact sheet.")] = 12
    page_format: Annotated[
        Literal["png", "jpeg", "webp"], msgspec.Meta(description="Of the pictures in a zip archive.")
    ] = "png"
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
        """Refuse what cannot be meant.

        Raises:
            ValueError: msgspec makes a `ValidationError` of it.
        """
        if self.dpi is not None and (self.width is not None or self.height is not None):
            raise ValueError("dpi cannot be combined with width or height: give one of them")
        parse_pages(self.page_list)

    @property
    def page_list(self) -> str:
        """The pages as text, also where one number was given."""
        return str(self.pages)


def format_name(output_file: PurePath) -> str:
    """The output's format as all types call it: `jpeg` and `tiff`, whatever the suffix."""
    suffix = output_file.suffix.lower()
    if suffix in MULTI_PAGE:
        return "tiff"
    return WRITE_FORMATS.get(suffix, suffix.removeprefix(".")).lower()


def layout_of(output_file: PurePath) -> Layout:
    """What the output's suffix asks for. Raises InvalidPath when nothing can be written to it."""
    suffix = output_file.suffix.lower()
    if suffix in ARCHIVES:
        return "zip"
    if suffix in MULTI_PAGE:
        return "tiff"
    if suffix in WRITE_FORMATS:
        return "picture"
    known = dict.fromkeys([*WRITE_FORMATS, *MULTI_PAGE, *ARCHIVES])
    raise InvalidPath(
        f"Pages cannot be written to {output_file.name!r}",
        field="output_file",
        remedy=f"Give it one of the suffixes {', '.join(known)}.",
    )


def check(job: Job[DocumentPreviewOptions]) -> None:
    """Whether the output can be written, and whether what the input's name asks for is installed."""
    layout_of(job.output_file)
    if office_suffix(job.input_file) and job.options.office == "libreoffice" and find_libreoffice() is None:
        raise InvalidPath(
            f"{job.input_file.name!r} needs LibreOffice, which is not on this machine",
            field="input_file",
            remedy=f"{HOW_TO_INSTALL}; or set the option office to thumbnail.",
        )
