"""Text and tables within so many columns: nothing is cut, and no word that fits on a line is broken."""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Literal

import msgspec

_WORDS = re.compile(r"(\s*)((?:`[^`\s][^`]{0,60}`|\S)+)")
"""What stands between backticks is for copying, and is one word."""
_GAP = 2
_INDENT = 4
_NARROWEST = 4
_LEAST = {"name": 16, "text": 24}
"""Columns that a cell needs to be read well when it has to go over several lines."""


class Column(msgspec.Struct, frozen=True):
    """A column of a table, and what becomes of it where there is no room."""

    heading: str
    kind: Literal["word", "name", "text"] = "word"
    """A word stays whole; a name and a text may go over several lines, a text needs more room to be read."""
    right: bool = False
    leaves: int = 0
    """Who leaves the line first: the highest number does. 0 stays. It then stands on a line of its own, below."""
    extra: bool = False
    """It is left out instead of standing below: `--wide` shows it."""


def wrapped(text: str, width: int, *, indent: str = "", hang: str = "") -> list[str]:
    """The text in lines of at most `width` columns, the first behind `indent`, the others behind `hang`.

    Only a word that is longer than a line goes beyond; it is not broken, so that it can still be copied.
    """
    from rich.cells import cell_len

    lines: list[str] = []
    line, used, begun = indent, cell_len(indent), False
    for space, word in _WORDS.findall(text):
        more = space + word if begun else word
        if used + cell_len(more) > width and (begun or used > cell_len(hang)):
            lines.append(line.rstrip())
            line, used, more = hang, cell_len(hang), word
        line += more
        used += cell_len(more)
        begun = True
    return [*lines, line.rstrip()]


def folded(text: str, width: int) -> list[str]:
    """The text in pieces of at most `width` columns, broken between words where there are some and anywhere else."""
    from rich.cells import cell_len, chop_cells

    return [
        piece
        for line in wrapped(text, width)
        for piece in (chop_cells(line, width) if cell_len(line) > width else [line])
    ]


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """The lines of a table, headings first. `width`: of the screen; `None` for as long as a line needs to be."""
    for lines in table_rows(columns, rows, width):
        yield from lines


def table_rows(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[list[str]]:
    """The same, the lines of the headings and of each row together."""
    from rich.cells import cell_len

    natural = [
        max((cell_len(column.heading), *(cell_len(row[place]) for row in rows))) for place, column in enumerate(columns)
    ]
    inline = _that_stay(columns, natural, width)
    widths = _widths(columns, natural, inline, width)
    below = [place for place, column in enumerate(columns) if place not in inline and not column.extra]
    kept = [columns[place] for place in inline]
    yield [_line([column.heading for column in kept], kept, widths), (" " * _GAP).join("─" * wide for wide in widths)]
    for row in rows:
        cells = [_cell(columns[place], row[place], wide) for place, wide in zip(inline, widths, strict=True)]
        lines = [_line(pieces, kept, widths) for pieces in zip_longest(*cells, fillvalue="")]
        yield lines + list(_below([(columns[place], row[place]) for place in below], width or 0))


def _need(column: Column, natural: int) -> int:
    return min(natural, max(_LEAST.get(column.kind, natural), len(column.heading)))


def _that_stay(columns: Sequence[Column], natural: Sequence[int], width: int | None) -> list[int]:
    """The places of the columns that stand side by side."""
    stay = list(range(len(columns)))
    if width is None:
        return stay
    leaving = sorted((place for place in stay if columns[place].leaves), key=lambda place: -columns[place].leaves)
    for place in leaving:
        if sum(_need(columns[one], natural[one]) + _GAP for one in stay) - _GAP <= width:
            break
        stay.remove(place)
    return stay


def _widths(columns: Sequence[Column], natural: Sequence[int], inline: Sequence[int], width: int | None) -> list[int]:
    """What each gets: what it needs, and of what is left over as much as it can use."""
    if width is None:
        return [natural[place] for place in inline]
    widths = [_need(columns[place], natural[place]) for place in inline]
    left = width - sum(widths) - _GAP * (len(widths) - 1)
    for number, place in enumerate(inline):
        least = widths[number] if columns[place].kind == "word" else min(widths[number], _NARROWEST)
        more = max(least - widths[number], min(left, natural[place] - widths[number]))
        widths[number] += more
        left -= more
    return widths


def _cell(column: Column, text: str, width: int) -> list[str]:
    from rich.cells import cell_len

    if column.kind == "word" or cell_len(text) <= width:
        return [text]
    return folded(text, width)


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    from rich.cells import cell_len

    padded = []
    for cell, column, wide in zip(cells, columns, widths, strict=True):
        space = " " * (wide - cell_len(cell))
        padded.append(space + cell if column.right else cell + space)
    return (" " * _GAP).join(padded).rstrip()


def _below(values: Sequence[tuple[Column, str]], width: int) -> Iterator[str]:
    """Values that found no room on the row's own line: short ones together, texts on a line each."""
    short = [f"{column.heading.lower()} {text}" for column, text in values if text and column.kind == "word"]
    if short:
        yield from wrapped(" · ".join(short), width, indent=" " * _INDENT, hang=" " * _INDENT)
    for column, text in values:
        if text and column.kind != "word":
            told = f"{column.heading.lower()}: {text}"
            yield from wrapped(told, width, indent=" " * _INDENT, hang=" " * (_INDENT + 2))
