"""The pages of a text: A4, laid out in points once, drawn in pixels page by page."""

import codecs
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeAlias
from unicodedata import category

from PIL import Image, ImageColor, ImageDraw

from ...events.counted import counted, plural
from ..contract import Unusable
from .fonts import FACES, AnyFont, Face, Ruler, can_shape, load_font, runs_to_left
from .markdown import BODY, PAGE_MARGIN, STYLES, TEXT_WIDTH, UNDERLINED, Block, markdown_blocks
from .pages import A4, pixels

_MAX_TEXT = 16 * 1024 * 1024
"""Bytes. A longer text is refused."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TAB = 4
_NEW_PAGE = "\f"
"""As texts for printers have it, such as RFCs."""
_PRINTED = 66
"""The most lines that a printer usually has on a page."""


def read_text(path: Path, *, unseen: bool = False) -> str:
    """The text of a file, with plain line ends, and with spaces for control characters except ends of pages.

    UTF-8, UTF-16 and UTF-32 are recognised by their mark, UTF-8 also without; anything else is read as Windows-1252.

    Args:
        path: the file.
        unseen: whether to keep characters that only say how others are set, such as joiners.

    Raises:
        Unusable: it is too long, or not text.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_TEXT + 1)
    if len(data) > _MAX_TEXT:
        raise Unusable(f"{path.name} has more than {_MAX_TEXT // 2**20} MB of text")
    text = _decode(data)
    if "\0" in text:
        raise Unusable(f"{path.name} is not text")
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    if _is_plain(lines):
        return lines
    kept = "\n\t\f" + "".join(c for c in set(lines) if unseen and category(c) == "Cf")
    return "".join(c if c.isprintable() or c in kept else " " for c in lines)


def _is_plain(text: str) -> bool:
    """Whether nothing needs replacing. This check is fast, and true for most texts."""
    return text.replace("\n", "").replace("\t", "").isprintable()


def _decode(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # Latin-1 with signs such as € where that has none but controls, which are no text. Five bytes have no meaning.
        return data.decode("cp1252", "replace")


def text_lines(text: str) -> list[str]:
    """The lines, with tabs expanded to spaces."""
    return [line.expandtabs(_TAB).rstrip() for line in text.split("\n")]


def text_blocks(text: str) -> Iterator[Block]:
    """The lines as blocks. A line is proportional if only that font has all its characters."""
    rulers = _rulers()
    mono, plain = rulers["mono"], rulers["plain"]
    pages = _marked_pages(text)
    lines = max((count for page in pages if (count := page.count("\n") + 1) <= _PRINTED), default=1)
    fits = math.floor(10 * (A4[1] - 2 * PAGE_MARGIN) / lines / _LEADING) / 10
    size = BODY if len(pages) == 1 else min(BODY, fits)
    for number, page in enumerate(pages):
        for place, line in enumerate(text_lines(page)):
            lost = not line.isascii() and any(mono.lacks(one) and not plain.lacks(one) for one in line)
            yield Block(line, "plain" if lost else "mono", size, new_page=number > 0 and place == 0)


def _marked_pages(text: str) -> list[str]:
    """The pages that the text marks; it may mark none. Blank lines at their ends are left out."""
    lead = text[: len(text) - len(text.lstrip())]
    written = text.rstrip()  # ends of pages, too
    text = (written if _NEW_PAGE in text[len(written) :] else text)[lead.rfind(_NEW_PAGE) + 1 :]
    if _NEW_PAGE not in text:
        return [text]
    first, *others = text.split(_NEW_PAGE)
    return [first.rstrip(), *(page.removeprefix("\n").rstrip() for page in others)]


_Colour: TypeAlias = tuple[int, int, int]

_LEADING = 1.3
"""Height of a line, as a multiple of the font's size."""
MAX_TEXT_PAGES = 20_000
_DARK, _BRIGHT = (26, 26, 26), (230, 230, 230)
_HALF_BRIGHT = 3 * 128
_FINEST = 20
"""Pixels. A page with a smaller font is drawn larger and reduced: characters have whole pixels as widths, which would
make the lines too long."""


class _Line(NamedTuple):
    """A line and its place on the page."""

    block: Block
    text: str
    styles: str
    top: float


class TextPages:
    """A text or Markdown file as pages.

    Raises:
        Unusable: it is not text, or too long.
    """

    most = math.inf

    def __init__(self, path: Path, *, markdown: bool) -> None:
        text = read_text(path)
        blocks = markdown_blocks(text.replace(_NEW_PAGE, " ")) if markdown else text_blocks(text)
        self._pages = list(_paginate(blocks, path.name))
        self.count = len(self._pages)

    def close(self) -> None:
        """Do nothing: no file is open."""

    def size(self, _number: int) -> tuple[float, float]:
        """The size of every page: A4."""
        return A4

    def notes(self, numbers: list[int]) -> list[str]:
        """Notes on characters of these pages that cannot be shown correctly."""
        rulers = _rulers()
        missing = backwards = 0
        for line in (line for number in numbers for line in self._pages[number - 1]):
            if not line.text.isascii():
                missing += sum(map(rulers[line.block.face].lacks, line.text))
                backwards += 0 if can_shape() else sum(map(runs_to_left, line.text))
        notes = []
        if missing:
            how = plural(missing, "has no glyph in the font and is", "have no glyph in the font and are")
            notes.append(f"{counted(missing, 'character')} {how} drawn as boxes")
        if backwards:
            are = plural(backwards, "is", "are")
            notes.append(f"{counted(backwards, 'character')} of scripts that run to the left {are} drawn to the right")
        return notes

    def draw(self, number: int, factor: float, background: str) -> Image.Image:
        """Draw a page at `factor` pixels per point."""
        finer = max(1, math.ceil(_FINEST / (BODY * factor)))
        width, height = pixels(*A4, factor)
        picture = Image.new("RGB", (width * finer, height * finer), background)
        _draw_lines(ImageDraw.Draw(picture), self._pages[number - 1], factor * finer, _ink_on(background))
        return picture.reduce(finer) if finer > 1 else picture


def _ink_on(background: str) -> _Colour:
    return _DARK if sum(ImageColor.getrgb(background)[:3]) > _HALF_BRIGHT else _BRIGHT


def _rulers() -> dict[Face, Ruler]:
    return {face: Ruler(face) for face in FACES}


def _draw_lines(pen: ImageDraw.ImageDraw, lines: list[_Line], factor: float, ink: _Colour) -> None:
    fonts: dict[tuple[Face, float, bool], AnyFont] = {}
    for line in lines:
        block = line.block
        left, top = (PAGE_MARGIN + block.indent) * factor, line.top * factor
        thin = max(1, round(factor / 2))
        if block.rule:
            middle = top + block.size * _LEADING / 2 * factor
            pen.line((left, middle, (A4[0] - PAGE_MARGIN) * factor, middle), ink, thin)
            continue
        for face, underlined, text, shaped in _runs(line):
            key = face, block.size, shaped
            if key not in fonts:
                fonts[key] = load_font(face, block.size * factor, shaped=shaped)
            pen.text((left, top), text, ink, fonts[key])
            right = left + fonts[key].getlength(text)
            if underlined:
                base = top + block.size * 1.1 * factor
                pen.line((left, base, right, base), ink, thin)
            left = right


def _runs(line: _Line) -> Iterator[tuple[Face, bool, str, bool]]:
    """Yield the parts of a line that are drawn in one go: face, underlined or not, text, shaped or not.

    A line with a script that runs to the left is one part, because its letters are not in reading order.
    """
    if not line.text.isascii() and any(map(runs_to_left, line.text)):
        yield line.block.face, False, line.text, can_shape()
    elif not line.styles:
        yield line.block.face, False, line.text, False
    else:
        for style, group in groupby(zip(line.styles, line.text, strict=True), key=lambda pair: pair[0]):
            yield STYLES[style], style == UNDERLINED, "".join(character for _, character in group), False


def _paginate(blocks: Iterator[Block], name: str) -> Iterator[list[_Line]]:
    rulers = _rulers()
    page: list[_Line] = []
    count, top, bottom = 1, PAGE_MARGIN, A4[1] - PAGE_MARGIN
    for block in blocks:
        top += block.before if page else 0
        height = block.size * _LEADING
        for start, end in wrap(block.text, (TEXT_WIDTH - block.indent) / block.size, _steps(block, rulers)):
            if page and (top + height > bottom or (block.new_page and start == 0)):
                yield page
                page, top, count = [], PAGE_MARGIN, count + 1
                if count > MAX_TEXT_PAGES:
                    raise Unusable(f"{name} has more than {MAX_TEXT_PAGES} pages of text")
            page.append(_Line(block, block.text[start:end], block.styles[start:end], top))
            top += height
    yield page


def _steps(block: Block, rulers: Mapping[Face, Ruler]) -> list[float]:
    """The width of each character, as a multiple of the font's size."""
    if not block.styles:
        return list(map(rulers[block.face].width, block.text))
    return [rulers[STYLES[style]].width(one) for one, style in zip(block.text, block.styles, strict=True)]


def wrap(text: str, width: float, steps: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each line.

    Args:
        text: the text to break, at spaces if possible.
        width: of a line, as a multiple of the font's size.
        steps: the width of each character, as a multiple of the font's size.
    """
    start, space, used = 0, -1, 0.0
    since_space = 0.0
    for place, step in enumerate(steps):
        character = text[place]
        if used + step > width and place > start:
            if character == " ":
                yield start, place
                start, space, used, since_space = place + 1, -1, 0.0, 0.0
                continue
            if space > start:
                yield start, start + len(text[start:space].rstrip())
                start, used = space + 1, since_space
            else:
                yield start, place
                start, used = place, 0.0
            space, since_space = -1, used
        used += step
        since_space += step
        if character == " ":
            space, since_space = place, 0.0
    yield start, len(text)
