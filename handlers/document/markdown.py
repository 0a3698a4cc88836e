"""Markdown as blocks: paragraphs with a size, an indent and a style for each character. markdown-it parses it.

The work grows linearly with the length of the text, whatever is in it. What is nested too deep is not shown.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from markdown_it import MarkdownIt
from markdown_it.token import Token

from .fonts import Face
from .pages import A4

PAGE_MARGIN = 40.0
"""Points."""
TEXT_WIDTH = A4[0] - 2 * PAGE_MARGIN
BODY = 10.0
"""Points."""
STYLES: dict[str, Face] = {"p": "plain", "b": "bold", "i": "italic", "m": "mono", "u": "plain"}
"""A letter for each style → its face. `u` is a link, which is underlined."""
UNDERLINED = "u"

_STYLE_OF = {"strong": "b", "em": "i", "code": "m", "a": UNDERLINED, "img": UNDERLINED}
"""The names of HTML elements, which markdown-it uses for its tokens → styles."""
_HEADINGS = (20.0, 16.0, 13.0, 11.5, 10.5, 10.0)
_INDENT = 14.0
_MOST_LISTS, _MOST_QUOTES = 7, 4
"""Deeper ones are not indented further."""
_MONO_WIDTH = 0.603
"""The width of a letter, as a share of the font's size."""
_SMALLEST = 5.0
"""Points, in a wide table. A row that is still wider is broken into several lines."""
_MOST_COLUMNS, _WIDEST = 40, 40
"""Beyond these, cells are not aligned: a few bytes must not become a page of blanks."""
_LONGEST = 500_000
"""Characters of a paragraph. A longer one is shown unparsed, because its marks would take much memory."""
_BETWEEN = "  "
_TAB = 4

FRONT_MATTER = re.compile(
    r"(---|\+\+\+)[ \t]*\n(?=(?:#[^\n]*\n)*[^\n]*[:=])(.*?\n)(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL
)
"""Facts about a text before it, in YAML or TOML. As Markdown they would be one large heading."""
_Definitions: TypeAlias = dict[str, Any]
"""markdown-it's `env`: the targets of references, which may be defined anywhere in the text."""


def new_parser() -> MarkdownIt:
    """A parser of CommonMark with tables. It shows HTML as plain text."""
    return MarkdownIt("commonmark", {"html": False}).enable("table")


_PARSER = new_parser()


class Block(NamedTuple):
    """A paragraph."""

    text: str
    face: Face = "mono"
    size: float = BODY
    indent: float = 0.0
    """Points, of every line."""
    before: float = 0.0
    """Points of space above, unless the block begins a page."""
    rule: bool = False
    """Whether a line across the page is drawn instead of text."""
    styles: str = ""
    """The style of each character, a letter of `STYLES`; empty if all have the face's style."""
    new_page: bool = False
    """Whether it begins a page."""


class _Paragraph(NamedTuple):
    """A block whose text is still Markdown, and the bullet or number before it."""

    block: Block
    mark: str


class _Table(NamedTuple):
    """The cells of a table, which are still Markdown."""

    rows: list[list[str]]
    to_right: list[bool]
    indent: float


def markdown_blocks(text: str) -> Iterator[Block]:
    """Yield the text as blocks that show headings, lists, quotes, code, rules and tables by size, style and indent."""
    definitions: _Definitions = {}
    parts = _Parts()
    if matter := FRONT_MATTER.match(text):
        parts.add_code(matter[2])
        text = text[matter.end() :]
    _PARSER.block.parse(text, _PARSER, definitions, parts)
    parts.close()
    for part in parts.found:
        if isinstance(part, _Table):
            yield from _table_blocks(part, definitions)
        elif isinstance(part, _Paragraph):
            yield from _text_blocks(part, definitions)
        else:
            yield part


class _Parts(list[Token]):
    """The list that the parser appends to. It turns the tokens into parts at once, and keeps none of them.

    The tokens of a long table would take hundreds of times its bytes. A token is complete when the next one comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Block | _Paragraph | _Table] = []
        self._token: Token | None = None
        self._lists: list[int | None] = []
        """The next number of each open list; None for bullets."""
        self._quotes = 0
        self._mark = ""
        """The bullet or number of an item that has just begun."""
        self._heading = 0
        self._table: _Table | None = None

    def append(self, token: Token) -> None:
        self.close()
        self._token = token

    def close(self) -> None:
        """Process the last token."""
        if self._token is not None:
            self._read(self._token)
        self._token = None

    def _read(self, token: Token) -> None:
        match token.type:
            case "inline":
                self._add_text(token.content)
            case "heading_open":
                self._heading = int(token.tag[1])
            case "heading_close":
                self._heading = 0
            case "fence" | "code_block":
                self.add_code(token.content)
            case "hr":
                self.found.append(Block("", "plain", indent=self._indent, before=6, rule=True))
            case "table_open":
                self._table = _Table([], [], self._indent + _INDENT)
                self.found.append(self._table)
            case "table_close":
                self._table = None
            case "tr_open" if self._table:
                self._table.rows.append([])
            case "th_open" if self._table:
                self._table.to_right.append("right" in str(token.attrs.get("style", "")))
            case _:
                self._follow(token)

    def _follow(self, token: Token) -> None:
        """Track the lists and quotes around the next block."""
        match token.type:
            case "bullet_list_open":
                self._lists.append(None)
            case "ordered_list_open":
                self._lists.append(int(token.attrs.get("start", 1)))
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
            case "list_item_open":
                number = self._lists[-1]
                self._mark = "•" if number is None else f"{number}{token.markup}"
                self._lists[-1] = None if number is None else number + 1
            case "list_item_close" if self._mark:
                self._add_text("")
            case "blockquote_open":
                self._quotes += 1
            case "blockquote_close":
                self._quotes -= 1

    @property
    def _indent(self) -> float:
        return _INDENT * (min(len(self._lists), _MOST_LISTS) + 2 * min(self._quotes, _MOST_QUOTES))

    def _add_text(self, content: str) -> None:
        if self._table:
            self._table.rows[-1].append(content)
            return
        if self._heading:
            size = _HEADINGS[self._heading - 1]
            block = Block(content, "bold", size, self._indent, before=8 + size / 2)
        else:
            block = Block(content, "plain", indent=self._indent, before=2 if self._lists else 6)
        self.found.append(_Paragraph(block, f"{self._mark} " if self._mark and content else self._mark))
        self._mark = ""

    def add_code(self, content: str) -> None:
        """Add lines that stay as they are written."""
        if self._mark:
            self._add_text("")
        lines = content.removesuffix("\n").split("\n") if content else []
        indent = self._indent + _INDENT
        self.found += (
            Block(line.expandtabs(_TAB), "mono", BODY - 1, indent, before=0 if at else 6)
            for at, line in enumerate(lines)
        )


def _text_blocks(paragraph: _Paragraph, definitions: _Definitions) -> Iterator[Block]:
    """Yield a block for each line; lines end where the text itself has a break."""
    block, mark = paragraph
    for at, (text, styles) in enumerate(_styled(block.text, "b" if block.face == "bold" else "p", definitions)):
        if at:
            yield block._replace(text=text, styles=styles, before=0)
        elif mark or text:
            yield block._replace(text=mark + text, styles="p" * len(mark) + styles)


def _table_blocks(table: _Table, definitions: _Definitions) -> Iterator[Block]:
    """The rows in a fixed-width font, with aligned columns and a line under the first row."""
    shown = [[" ".join(text for text, _ in _styled(cell, "p", definitions)) for cell in row] for row in table.rows]
    if len(table.to_right) > _MOST_COLUMNS:
        lines = [" | ".join(row).rstrip(" |") for row in shown]
    else:
        widths = [min(_WIDEST, max(map(len, column))) for column in zip(*shown, strict=True)]
        lines = [_BETWEEN.join(map(_padded, row, widths, table.to_right)) for row in shown]
        lines = [line.rstrip() for line in lines]
        lines.insert(1, _BETWEEN.join("─" * width for width in widths))
    room = (TEXT_WIDTH - table.indent) / _MONO_WIDTH / max(1, *map(len, lines))
    size = max(_SMALLEST, min(BODY - 1, room))
    return (Block(line, "mono", size, table.indent, before=0 if at else 6) for at, line in enumerate(lines))


def _padded(cell: str, width: int, to_right: bool) -> str:  # noqa: FBT001 - one of three columns
    return cell.rjust(width) if to_right else cell.ljust(width)


def _styled(content: str, style: str, definitions: _Definitions) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text without marks, with each character's style; `style` applies outside of marks."""
    if len(content) > _LONGEST:
        yield content.replace("\n", " "), style * len(content)
        return
    tokens: list[Token] = []
    _PARSER.inline.parse(content, _PARSER, definitions, tokens)
    texts: list[str] = []
    styles: list[str] = []
    opened = [style]
    for token in tokens:
        if token.nesting > 0:
            opened.append(_STYLE_OF.get(token.tag, style))
        elif token.nesting < 0:
            opened.pop()
        elif token.type == "hardbreak":
            yield "".join(texts), "".join(styles)
            texts, styles = [], []
        else:
            text = _text_of(token)
            texts.append(text)
            styles.append((UNDERLINED if UNDERLINED in opened else _STYLE_OF.get(token.tag, opened[-1])) * len(text))
    yield "".join(texts), "".join(styles)


def _text_of(token: Token) -> str:
    if token.type == "softbreak":
        return " "
    if token.type == "image":
        return "".join(map(_text_of, token.children or []))
    return token.content.replace("\t", " ")
