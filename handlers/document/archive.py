"""Inspects office documents, which are zip archives of XML, before any program opens them."""

import re
import zipfile
from pathlib import Path
from posixpath import join, normpath
from xml.parsers import expat

from ..contract import Unusable
from ..media.archives import ALWAYS_ALLOWED_UNPACKED, MAX_ENTRIES, MAX_RATIO, MAX_UNPACKED, open_zip

_CHUNK = 1 << 20
_FORBIDDEN = (b"<!DOCTYPE", b"<!ENTITY")
_LONGEST = max(map(len, _FORBIDDEN))
_OF_MACROS = re.compile(
    rb'<!DOCTYPE [a-z]+:[a-z]+ PUBLIC "-//OpenOffice\.org//DTD OfficeDocument 1\.0//EN" "[a-z]+\.dtd">'
)
"""The document types of macros and dialogs, as LibreOffice writes them. Nothing is declared in one, or read for it."""
_ODF_KEYS = b"encryption-data"
_SLIDE = re.compile(r"ppt/slides/slide\d+\.xml")
_CONTENTS = re.compile(r"(xl|ppt)/_rels/(workbook|presentation)\.xml\.rels")
_UNSEEN = ("Configurations2/", "docProps/", "customXml/", "__MACOSX/")
"""Folders whose parts are on no page. Old programs write empty ones, and a Mac that packs a document anew its own."""
_STATISTICS = ("docProps/app.xml", "meta.xml")
_MAX_STATISTICS = 100_000
_NAMED, _MOST_NAMED = 100, 5
"""The longest name of a part in a note, and how many parts get a note of their own."""
_PAGES = re.compile(rb"<Pages>(\d{1,6})</Pages>|page-count=\"(\d{1,6})\"")


def inspect_archive(path: Path) -> None:
    """Refuse zip bombs and XML that declares entities. Reads all parts once, in small steps; unpacks nothing to disk.

    This is stricter than `preflight`, because another program will unpack the archive, and may not trust the sizes in
    the directory.

    Raises:
        Unusable: it is such an archive, or damaged, or encrypted.
        OSError: it cannot be read.
    """
    limit = min(MAX_UNPACKED, max(ALWAYS_ALLOWED_UNPACKED, MAX_RATIO * path.stat().st_size))
    with open_zip(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise Unusable(f"{path.name} has {len(entries)} parts; up to {MAX_ENTRIES} are read")
        unpacked = 0
        for entry in entries:
            if entry.flag_bits & 1:
                raise Unusable(f"{path.name} is encrypted: save it without a password first")
            unpacked += _read_through(archive, entry, path.name, limit - unpacked)


def _read_through(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, limit: int) -> int:
    """Count the bytes that the part unpacks to, whatever size it claims."""
    size, before = 0, b""
    with archive.open(entry) as part:
        while chunk := part.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise Unusable(f"{name} unpacks to far more than a document has: a zip bomb")
            seen = before + chunk.replace(b"\0", b"")  # XML may be in UTF-16
            if entry.filename.endswith((".xml", ".rels", ".vml", ".rdf")):
                declared = _OF_MACROS.sub(b"", seen) if entry.filename.startswith(("Basic/", "Dialogs/")) else seen
                if any(mark in declared for mark in _FORBIDDEN):
                    raise Unusable(f"{name} declares XML entities in {entry.filename}, as no office program does")
                if entry.filename == "META-INF/manifest.xml" and _ODF_KEYS in seen:
                    raise Unusable(f"{name} is encrypted: save it without a password first")
            before = seen[-_LONGEST:]
    return size


def broken_parts(path: Path) -> list[str]:
    """Notes on parts that are no whole XML or missing: of such a sheet, LibreOffice draws a blank page or none.

    The archive has passed `inspect_archive`. Raises Unusable, OSError.
    """
    with open_zip(path) as archive:
        names = {name.lower() for name in archive.namelist()}
        listed: list[str] = []
        broken = [entry.filename for entry in archive.infolist() if _is_broken(archive, entry, listed)]
    missing = [name for name in listed if name.lower() not in names]
    notes = [f"{name[:_NAMED]} is damaged: what it holds may be missing from the pages" for name in broken]
    notes += [f"{name[:_NAMED]} is missing in the document" for name in missing]
    more = len(notes) - _MOST_NAMED
    return notes if more <= 0 else [*notes[:_MOST_NAMED], f"{more} more parts are damaged or missing"]


def _is_broken(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, listed: list[str]) -> bool:
    """Whether the part is no whole XML. If it lists sheets or slides, their names are added to `listed`."""
    if not entry.filename.endswith((".xml", ".rels")) or entry.filename.startswith(_UNSEEN):
        return False
    parser = expat.ParserCreate()
    if _CONTENTS.fullmatch(entry.filename):
        folder = entry.filename.partition("/")[0]

        def element(_name: str, values: dict[str, str]) -> None:
            if values.get("Type", "").endswith(("/worksheet", "/slide")) and "Target" in values:
                listed.append(normpath(join("/", folder, values["Target"]))[1:])

        parser.StartElementHandler = element
    try:
        with archive.open(entry) as part:
            parser.ParseFile(part)
    except (expat.ExpatError, LookupError):  # the second: an encoding that does not exist
        return True
    except ValueError:  # an encoding that expat does not read, such as gb2312, but LibreOffice does
        return False
    return False


def page_hint(path: Path) -> int | None:
    """The document's stated number of pages, which may be wrong; None if it states none. Raises Unusable."""
    with open_zip(path) as archive:
        names = archive.namelist()
        slides = sum(1 for name in names if _SLIDE.fullmatch(name))
        if slides:
            return slides
        for name in _STATISTICS:
            if name in names:
                with archive.open(name) as part:
                    found = _PAGES.search(part.read(_MAX_STATISTICS))
                if found:
                    return int(found[1] or found[2])
    return None
