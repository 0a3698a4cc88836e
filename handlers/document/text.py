"""The pages of a text: A4, laid out in points once, drawn in pixels page by page."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from PIL import Image, ImageColor, ImageDraw

from ..contract import Unusable
from .blocks import BODY, Block, markdown_blocks, plain_blocks
from .fonts import AnyFont, Face, Ruler, load_font
from .reading import read_text, text_lines
from .sizes import pixels

Colour: TypeAlias = tuple[int, int, int]

PAGE = (595.0, 842.0)
"""A4 in points."""
MARGIN = 40.0
LEADING = 1.3
"""Height of a line, as a multiple of the font's size."""
MAX_TEXT_PAGES = 20_000
_DARK, _BRIGHT = (26, 26, 26), (230, 230, 230)
_HALF_BRIGHT = 3 * 128
_FINEST = 20
"""Pixels. Characters of smaller fonts get whole pixels, which makes lines too long: such a page is drawn larger and
reduced."""


class Line(NamedTuple):
    """One line where it stands on its page."""

    block: Block
    text: str
    top: float


class TextPages:
    """A text or Markdown file as pages.

    Raises:
        Unusable: it is not text, or too long.
    """

    most = math.inf

    def __init__(self, path: Path, *, markdown: bool) -> None:
        lines = text_lines(read_text(path))
        blocks = markdown_blocks(lines) if markdown else plain_blocks(lines)
        self._pages = list(_paginate(blocks, path.name))
        self.count = len(self._pages)

    def close(self) -> None:
        """Nothing is open."""

    def size(self, _number: int) -> tuple[float, float]:
        """All pages are alike."""
        return PAGE

    def draw(self, number: int, factor: float, background: str) -> Image.Image:
        """A page at so many pixels a point."""
        finer = max(1, math.ceil(_FINEST / (BODY * factor)))
        width, height = pixels(*PAGE, factor)
        picture = Image.new("RGB", (width * finer, height * finer), background)
        _draw_lines(ImageDraw.Draw(picture), self._pages[number - 1], factor * finer, _ink_on(background))
        return picture.reduce(finer) if finer > 1 else picture


def _ink_on(background: str) -> Colour:
    return _DARK if sum(ImageColor.getrgb(background)[:3]) > _HALF_BRIGHT else _BRIGHT


def _draw_lines(pen: ImageDraw.ImageDraw, lines: list[Line], factor: float, ink: Colour) -> None:
    fonts: dict[tuple[Face, float], AnyFont] = {}
    for block, text, line_top in lines:
        left, top = (MARGIN + block.indent) * factor, line_top * factor
        if block.rule:
            middle = top + block.size * LEADING / 2 * factor
            pen.line((left, middle, (PAGE[0] - MARGIN) * factor, middle), ink, max(1, round(factor / 2)))
        elif text:
            key = block.face, block.size
            if key not in fonts:
                fonts[key] = load_font(block.face, block.size * factor)
            pen.text((left, top), text, ink, fonts[key])


def _paginate(blocks: Iterator[Block], name: str) -> Iterator[list[Line]]:
    rulers: dict[Face, Ruler] = {face: Ruler(face) for face in ("plain", "bold", "mono")}
    page: list[Line] = []
    count, top, bottom = 1, MARGIN, PAGE[1] - MARGIN
    for block in blocks:
        top += block.before if page else 0
        height = block.size * LEADING
        for text in wrap(block.text, (PAGE[0] - 2 * MARGIN - block.indent) / block.size, rulers[block.face]):
            if top + height > bottom and page:
                yield page
                page, top, count = [], MARGIN, count + 1
                if count > MAX_TEXT_PAGES:
                    raise Unusable(f"{name} has more than {MAX_TEXT_PAGES} pages of text")
            page.append(Line(block, text, top))
            top += height
    yield page


def wrap(text: str, width: float, ruler: Ruler) -> Iterator[str]:
    """The text in lines of at most `width` (a multiple of the font's size), at spaces where there are any."""
    start, space, used = 0, -1, 0.0
    since_space = 0.0
    for place, character in enumerate(text):
        step = ruler.width(character)
        if used + step > width and place > start:
            if character == " ":
                yield text[start:place]
                start, space, used, since_space = place + 1, -1, 0.0, 0.0
                continue
            if space > start:
                yield text[start:space].rstrip()
                start, used = space + 1, since_space
            else:
                yield text[start:place]
                start, used = place, 0.0
            space, since_space = -1, used
        used += step
        since_space += step
        if character == " ":
            space, since_space = place, 0.0
    yield text[start:]
