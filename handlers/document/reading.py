"""Text out of a file: UTF-8, UTF-16 or UTF-32 with a mark, else Latin-1, which reads everything."""

import codecs
from pathlib import Path

from ..contract import Unusable

MAX_TEXT = 16 * 1024 * 1024
"""Bytes. A longer text is no document to look at."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TAB = 4


def read_text(path: Path) -> str:
    """The text, with plain line ends, and spaces for tabs and control characters.

    Raises:
        Unusable: it is too long, or not text.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise Unusable(f"{path.name} has more than {MAX_TEXT // 2**20} MB of text")
    text = _decode(data)
    if "\0" in text:
        raise Unusable(f"{path.name} is not text")
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in lines) if not _plain(lines) else lines


def _plain(text: str) -> bool:
    """Whether there is nothing to replace; quick, because most texts are so."""
    return text.replace("\n", "").replace("\t", "").isprintable()


def _decode(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def text_lines(text: str) -> list[str]:
    """The lines, tabs as spaces up to the next stop."""
    return [line.expandtabs(_TAB).rstrip() for line in text.split("\n")]
