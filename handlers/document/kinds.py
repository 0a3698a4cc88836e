"""The kind of a document: by its suffix when the command arrives, by its content when the work begins."""

from pathlib import Path, PurePath

from ..contract import Unusable
from ..inputs import refuse_empty
from ..media.archives import open_zip

OFFICE: frozenset[str] = frozenset(["docx", "xlsx", "pptx", "odt", "ods", "odp", "doc", "xls", "ppt", "rtf"])
"""Kinds that LibreOffice must convert into pages."""
PACKED: frozenset[str] = frozenset(["docx", "xlsx", "pptx", "odt", "ods", "odp"])
"""Office documents that are zip archives."""
MARKDOWN_SUFFIXES = frozenset([".md", ".markdown"])

_HEAD = 1024
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_ODF = {
    b"application/vnd.oasis.opendocument.text": "odt",
    b"application/vnd.oasis.opendocument.spreadsheet": "ods",
    b"application/vnd.oasis.opendocument.presentation": "odp",
}
_OLD = {"WordDocument": "doc", "Workbook": "xls", "Book": "xls", "PowerPoint Document": "ppt"}
"""The stream that each older kind has."""
_STREAM_NAME = 64
"""Bytes of a stream's name in the directory of such a file."""
_CHUNK = 1 << 20
_OOXML = {"word/": "docx", "xl/": "xlsx", "ppt/": "pptx"}


def office_suffix(path: PurePath) -> bool:
    """Whether the name implies that LibreOffice is needed."""
    return path.suffix.lower().removeprefix(".") in OFFICE


def document_kind(path: Path) -> str:
    """The kind of the file: pdf, text, markdown, or one of `OFFICE`. The suffix decides if the content does not.

    Raises:
        Unusable: it is of none of these kinds.
        OSError: the file cannot be read.
    """
    refuse_empty(path)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    suffix = path.suffix.lower()
    if b"%PDF-" in head:
        return "pdf"
    if head.startswith(b"PK"):
        return _packed_kind(path)
    if head.startswith(_OLE):
        return _old_kind(path)
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if not head.strip():
        raise Unusable(f"{path.name} is blank: it holds only spaces and line ends")
    if b"\0" in head and not head.startswith(_WIDE_MARKS):
        raise Unusable(f"{path.name} is neither a PDF, an office document nor text")
    return "markdown" if suffix in MARKDOWN_SUFFIXES else "text"


def _packed_kind(path: Path) -> str:
    with open_zip(path) as archive:
        names = archive.namelist()
        if "mimetype" in names:
            with archive.open("mimetype") as file:
                found = _ODF.get(file.read(_HEAD).strip().removesuffix(b"-template"))
        elif "[Content_Types].xml" in names:
            found = next((kind for folder, kind in _OOXML.items() if any(n.startswith(folder) for n in names)), None)
        else:
            found = None
    if found is None:
        raise Unusable(f"{path.name} is an archive, not one of the documents {', '.join(sorted(PACKED))}")
    return found


def _old_kind(path: Path) -> str:
    streams = _old_streams(path)
    if "EncryptedPackage" in streams:  # a docx, xlsx or pptx
        raise Unusable(f"{path.name} is encrypted: save it without a password first")
    suffix = path.suffix.lower().removeprefix(".")
    if suffix in OFFICE - PACKED:
        return suffix
    found = next((kind for name, kind in _OLD.items() if name in streams), None)
    if found is None:
        raise Unusable(f"{path.name} is a file of an older program, and not one of the documents doc, ppt, xls")
    return found


def _old_streams(path: Path) -> set[str]:
    """The names of those streams in the file that show its kind."""
    entries = {name: name.encode("utf-16-le").ljust(_STREAM_NAME, b"\0") for name in (*_OLD, "EncryptedPackage")}
    found, before = set[str](), b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            seen = before + chunk
            found.update(name for name, entry in entries.items() if entry in seen)
            before = seen[1 - _STREAM_NAME :]
    return found
