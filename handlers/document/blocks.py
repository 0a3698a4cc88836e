"""A text as blocks: paragraphs with a style. Plain text has one style, Markdown a few."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from .fonts import Face
from .inline import styled
from .tables import table_lines

PAGE = (595.0, 842.0)
"""A4 in points."""
MARGIN = 40.0
TEXT_WIDTH = PAGE[0] - 2 * MARGIN
BODY = 10.0
"""Points."""
_HEADINGS = (20.0, 16.0, 13.0, 11.5, 10.5, 10.0)
_INDENT = 14.0
_MOST_LEVELS = 6

_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_ITEM = re.compile(r"(\s*)([-*+]|\d{1,9}[.)])\s+(.*)")
_FENCE = re.compile(r"\s*(```|~~~)")
_RULE = re.compile(r"\s*([-*_])(\s*\1){2,}\s*")
_UNDERLINE = re.compile(r"(=+|-+)\s*")
_MONO_WIDTH = 0.603
"""Of a letter, as a share of the font's size."""
_SMALLEST = 5.0
"""Points, of a wide table; beyond, its rows go over several lines."""


class Block(NamedTuple):
    """A paragraph."""

    text: str
    face: Face = "mono"
    size: float = BODY
    indent: float = 0.0
    """Points, of every line."""
    before: float = 0.0
    """Points of space above, unless it begins a page."""
    rule: bool = False
    """A line across the page, instead of text."""
    styles: str = ""
    """The style of each character, see `inline.STYLES`; empty: all have that of the face."""


def plain_blocks(lines: list[str]) -> Iterator[Block]:
    """Each line by itself, as it stands."""
    return (Block(line) for line in lines)


def markdown_blocks(lines: list[str]) -> Iterator[Block]:
    """Headings, lists, quotes, code, rules and tables are shown by size, weight, slant, indent and columns."""
    open_block = _Open()
    """What the next line of running text belongs to."""
    fence = ""
    table: list[str] = []
    for line in lines:
        mark = _FENCE.match(line)
        if not fence and line.lstrip().startswith("|"):
            yield from open_block.closed()
            table.append(line)
            continue
        yield from _table(table)
        table = []
        block = open_block.block
        if fence or mark:
            yield from open_block.closed()
            if mark and (not fence or mark[1] == fence):
                fence = "" if fence else mark[1]
            else:
                yield Block(line, "mono", BODY - 1, _INDENT)
        elif block and not block.indent and _UNDERLINE.fullmatch(line):
            open_block.block = _heading("", 1 if line[0] == "=" else 2)
            yield from open_block.closed()
        elif block and line.startswith(" ") and line.strip() and not _ITEM.fullmatch(line):
            open_block.add(line)
        elif single := _single(line):
            yield from open_block.closed()
            open_block.begin(single)
        elif not line.strip():
            yield from open_block.closed()
        elif block and block.face == "plain" and not block.rule:
            open_block.add(line)
        else:
            yield from open_block.closed()
            open_block.begin(Block(line.strip(), "plain", before=6))
    yield from open_block.closed()
    yield from _table(table)


class _Open:
    """The block that is being read, and its lines: they are put together once, for there may be any number."""

    def __init__(self) -> None:
        self.block: Block | None = None
        self._lines: list[str] = []

    def begin(self, block: Block) -> None:
        self.block, self._lines = block, [block.text]

    def add(self, line: str) -> None:
        self._lines.append(line.strip())

    def closed(self) -> Iterator[Block]:
        """The block, complete: marks may reach over the ends of its lines. None is open then."""
        if self.block is not None:
            whole = self.block._replace(text=" ".join(self._lines))
            yield whole if whole.face == "mono" else _with_styles(whole)
        self.block, self._lines = None, []


def _with_styles(block: Block) -> Block:
    text, styles = styled(block.text, "b" if block.face == "bold" else "p")
    return block._replace(text=text, styles=styles)


def _table(lines: list[str]) -> Iterator[Block]:
    if lines:
        rows = table_lines(lines)
        room = (TEXT_WIDTH - _INDENT) / _MONO_WIDTH / max(1, *map(len, rows))
        size = max(_SMALLEST, min(BODY - 1, room))
        yield from (Block(row, "mono", size, _INDENT, before=0 if at else 6) for at, row in enumerate(rows))


def _single(line: str) -> Block | None:
    """The block that a line makes by itself."""
    if match := _HEADING.fullmatch(line):
        return _heading(match[2].rstrip("#").rstrip(), len(match[1]))
    if _RULE.fullmatch(line):
        return Block("", "plain", before=6, rule=True)
    if match := _ITEM.fullmatch(line):
        level = min(len(match[1]) // 2, _MOST_LEVELS) + 1
        mark = match[2] if match[2][0].isdigit() else "•"
        return Block(f"{mark} {match[3]}", "plain", indent=level * _INDENT, before=2)
    if line.startswith(">"):
        return Block(line.lstrip("> "), "plain", indent=2 * _INDENT)
    if line.startswith("    "):
        return Block(line, "mono", BODY - 1, _INDENT)
    return None


def _heading(text: str, level: int) -> Block:
    return Block(text, "bold", _HEADINGS[level - 1], before=8 + _HEADINGS[level - 1] / 2)
