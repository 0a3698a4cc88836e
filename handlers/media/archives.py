"""Checks untrusted zip files before anything is unpacked: 3mf, docx, xlsx, pptx, odt and similar formats."""

import errno
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.parsers import expat

from ..contract import Unusable
from ..io_errors import error_text

MAX_ENTRIES = 5000
MAX_UNPACKED = 200_000_000
MAX_RATIO = 200
ALWAYS_ALLOWED_UNPACKED = 1_000_000
"""Bytes. The ratio is not checked below this: a page of blanks may shrink by any factor."""
_XML_SUFFIXES = (".xml", ".rels", ".model", ".config", ".vml", ".rdf")
_ENCODINGS = {None, "utf-8", "utf-16", "us-ascii", "ascii", "iso-8859-1"}
_BLOCK = 65_536


class _PrologEndsError(Exception):
    """The root element has begun. Raised and caught only in this module."""


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive for reading. Its faults become `Unusable`, inside the `with` as well.

    Raises:
        Unusable: it is not a zip file, or is damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:  # outside of the `try`: a missing file is not damage
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except Unusable:
            raise
        except (zlib.error, EOFError) as error:
            raise Unusable(f"{path.name} is damaged: a part of it cannot be unpacked ({error_text(error)})") from error
        except zipfile.BadZipFile as error:
            raise Unusable(_bad_zip_reason(path, error_text(error))) from error
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise Unusable(
                f"{path.name} is a zip file of a kind that is not read here ({error_text(error)}): "
                "save it again with the program it comes from"
            ) from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise Unusable(f"{path.name} is damaged: it points before its start") from error


def _bad_zip_reason(path: Path, words: str) -> str:
    """The reason for `BadZipFile`: Python raises it for proven damage, but also for files that it cannot read."""
    if "span multiple disks" in words:
        return f"{path.name} is one of several parts of a zip file: put them together first"
    with path.open("rb") as file:
        begins = file.read(2) == b"PK"
    if "not a zip file" in words:
        cut = f"{path.name} is damaged: its directory, which stands at the end, is missing, as in a file that was cut"
        return cut if begins else f"{path.name} is no zip file"
    return f"{path.name} is damaged: {words}"


def preflight(path: Path) -> dict[str, int]:
    """Entry name → unpacked size, if the archive is harmless. Reads the directory and the beginning of each XML entry.

    Raises:
        Unusable: it is not a zip file, is encrypted, or would unpack to too much; or its XML has a DOCTYPE, whose
            entities could grow or name other files.
    """
    with open_zip(path) as archive:
        entries = archive.infolist()
        _check_sizes(entries, path)
        for entry in entries:
            if entry.filename.lower().endswith(_XML_SUFFIXES):
                _check_prolog(archive, entry, path.name)
    return {entry.filename: entry.file_size for entry in entries}


def _check_sizes(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Check sizes by the directory: Python's zipfile never unpacks more of an entry than is stated there."""
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        raise Unusable(f"{path.name} has {len(entries)} entries; the limit is {MAX_ENTRIES}")
    if unpacked > MAX_UNPACKED:
        raise Unusable(f"{path.name} would unpack to {unpacked} bytes; the limit is {MAX_UNPACKED}")
    if unpacked > ALWAYS_ALLOWED_UNPACKED and unpacked > MAX_RATIO * path.stat().st_size:
        raise Unusable(f"{path.name} would unpack to more than {MAX_RATIO} times its size")
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unusable(f"{path.name} is encrypted")


def _check_prolog(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> None:
    """Refuse a DOCTYPE. It may only stand before the root element, so the rest is not read."""

    def refuse(*_: Any) -> None:
        raise Unusable(f"{name}: {entry.filename} holds a DOCTYPE, which may bring in other files: it is not read")

    def declared(_version: str, encoding: str | None, _standalone: int) -> None:
        if (encoding and encoding.lower()) not in _ENCODINGS:
            raise Unusable(f"{name}: {entry.filename} is in {encoding}, which is not read")

    def root(*_: Any) -> None:
        raise _PrologEndsError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.XmlDeclHandler = declared
    parser.StartElementHandler = root
    try:
        with archive.open(entry) as file:
            while block := file.read(_BLOCK):
                parser.Parse(block, False)  # noqa: FBT003 - expat takes no keywords
    except _PrologEndsError:
        return
    except expat.ExpatError as error:
        raise Unusable(f"{name}: {entry.filename} is not well-formed XML: {error}") from error
