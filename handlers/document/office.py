"""The PDF that LibreOffice makes of a document: made once for all attempts of a task, and kept as a piece."""

import re
import shutil
import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from ...events.counted import counted, plural
from ..contract import TaskContext
from ..pieces import Pieces, seal
from .archive import broken_parts
from .kinds import OFFICE, PACKED
from .libreoffice import MadePdf, convert_to_pdf, installed_fonts, without_font
from .pdf import PdfPages, characters_of_fonts

_NUMBER = 0
"""The number of its piece. Pages have their own number, from 1."""
_MOST_NAMED = 10
"""Fonts, or characters, that a note names."""
_DOUBTFUL = re.compile("[\u3001\ue000-\uf8ff\U000f0000-\U0010ffff]")
"""Characters of which only the pages tell whether they are lost. LibreOffice measures a comma beside Chinese and
Japanese, drawn or not. Of those for private use, it asks for none (26.8), or even for those of Symbol and Wingdings,
whose like it draws from its own font (25.2)."""
_SPACE = "\uf020"
"""The space of Symbol and Wingdings."""
_OF_LIBREOFFICE = b"OpenSymbol"
_BOXES = ((0.266, 0.667), (0.365, 0.0))
"""The width and height of what this font has for all that it lacks, in a size of 1: a box (25.2), or a blank (26.8)."""


class _Lacking(msgspec.Struct, frozen=True):
    """What this machine did not have when the PDF was made, maybe by an earlier attempt."""

    fonts: list[str] = []
    boxes: list[str] = []
    """Characters that no font has."""


class OfficePdf:
    """One document's PDF."""

    def __init__(self, context: TaskContext[Any], pieces: Pieces, kind: str, *, done: float) -> None:
        """`kind`: of the document, by its content. `done`: percent of the task's work when the PDF is made."""
        self._context = context
        self._pieces = pieces
        self._kind = kind
        self._done = done
        self._lacking = context.work_dir / "lacking.json"

    def path(self, source: Path | None = None) -> Path:
        """The PDF, which is made if no attempt has.

        Args:
            source: what LibreOffice reads, if that is not the task's input.

        Raises:
            Unusable: LibreOffice is missing, or the document must not be opened.
            OfficeFailedError: LibreOffice made no PDF of it.
        """
        if _NUMBER not in self._pieces:
            self._make(source or self._context.input_file)
        return self._pieces.path(_NUMBER)

    def _make(self, source: Path) -> None:
        context, pieces = self._context, self._pieces
        context.progress(0, f"LibreOffice reads {context.input_file.name}")
        folder = context.work_dir / "office"
        try:
            pdf = convert_to_pdf(source, self._kind, folder, context.check_stop)
            part = self._lacking.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(_Lacking(pdf.lacking, _boxes(pdf, context.check_stop))))
            seal(part, self._lacking)
            pdf.path.replace(pieces.part(_NUMBER))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        pieces.keep(_NUMBER, self._done, "LibreOffice is done")
        pieces.save(self._done, "LibreOffice is done")

    def notes(self) -> list[str]:
        """Notes on fonts and characters that this machine lacks, and on parts of the document that are damaged.

        Of a text, whose fonts are ours, on characters alone.
        """
        try:
            lacking = msgspec.json.decode(self._lacking.read_bytes(), type=_Lacking)
        except (FileNotFoundError, msgspec.DecodeError):  # the PDF is that of an earlier version
            lacking = _Lacking()
        broken = broken_parts(self._context.input_file) if self._kind in PACKED else []
        return [*(_font_notes(lacking.fonts) if self._kind in OFFICE else []), *_box_notes(lacking.boxes), *broken]


def _boxes(pdf: MadePdf, tick: Callable[[], None]) -> list[str]:
    """The characters that no font has, and that are not drawn from a font of LibreOffice or of the document itself."""
    asked = set(pdf.boxes)
    sure = {one for one in asked if not _DOUBTFUL.fullmatch(one)}
    named = characters_of_fonts(pdf.path, _DOUBTFUL)
    if not named and sure == asked:
        return pdf.boxes
    with closing(PdfPages(pdf.path)) as pages:
        shown = pages.glyphs(_DOUBTFUL, _BOXES, tick)
    ours = installed_fonts()
    lost = {
        glyph.character
        for glyph in shown
        if (glyph.is_box if glyph.font == _OF_LIBREOFFICE else glyph.character in asked or glyph.font in ours)
    }
    blank = named - {glyph.character for glyph in shown} - {_SPACE}
    return sorted({*sure, *without_font(lost | blank)})


def _font_notes(fonts: list[str]) -> list[str]:
    if not fonts:
        return []
    names = [name if name.isprintable() else ascii(name) for name in fonts[:_MOST_NAMED]]
    more = [counted(len(fonts) - _MOST_NAMED, "more font")] if len(fonts) > _MOST_NAMED else []
    return [f"fonts that are not on this machine, and for which others stand in: {', '.join(names + more)}"]


def _box_notes(boxes: list[str]) -> list[str]:
    if not boxes:
        return []
    some = " ".join(one if one.isprintable() else f"U+{ord(one):04X}" for one in boxes[:_MOST_NAMED])
    # All that a font lacks have one glyph, and those for private use may be known by it alone: then only the first is.
    more = " or more" if any(unicodedata.category(one) == "Co" for one in boxes) else ""
    lost = f"{len(boxes):,} {plural(len(boxes), 'character')} of it{more}, drawn as boxes or not at all"
    return [f"no font on this machine has {lost}, such as {some}"]
