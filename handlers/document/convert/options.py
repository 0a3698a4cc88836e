"""The options of `document_convert`. No image library here: the service imports this."""

import msgspec

from ....events.errors import InvalidPath
from ...contract import Job
from ..libreoffice import INSTALL_LIBREOFFICE, find_libreoffice
from ..page_list import PageList, parse_pages

PDF = ".pdf"


class DocumentConvertOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `document_convert`."""

    pages: PageList = "all"

    def __post_init__(self) -> None:
        """Refuse a list that is none.

        Raises:
            ValueError: msgspec turns it into a `ValidationError`.
        """
        parse_pages(self.page_list)

    @property
    def page_list(self) -> str:
        """The pages as text, even if one number was given."""
        return str(self.pages)


def check(job: Job[DocumentConvertOptions]) -> None:
    """Raise InvalidPath if the output is no PDF, or the input needs LibreOffice, which is not installed."""
    if job.output_file.suffix.lower() != PDF:
        raise InvalidPath(
            f"A document is not converted to {job.output_file.name!r}",
            field="output_file",
            remedy="Name a .pdf; `document_preview` draws pages as pictures.",
        )
    if job.input_file.suffix.lower() != PDF and find_libreoffice() is None:
        raise InvalidPath(
            f"{job.input_file.name!r} needs LibreOffice, which is not on this machine",
            field="input_file",
            remedy=f"{INSTALL_LIBREOFFICE}. A PDF needs none if its name ends in .pdf.",
        )
