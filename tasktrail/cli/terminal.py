"""Output for people: values in words, text and tables that fit the terminal; and JSON for programs.

Nothing is cut off, and no word that fits on a line is broken. Text of handlers and users cannot steer the terminal.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import IO, Any, Literal, Self, TextIO

import click
import msgspec

from ..words import ago, moment


def plain(text: str) -> str:
    """Make control characters of a text visible: text of handlers and users must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def localized(text: str) -> str:
    """Return the text, with the messages of recovery and resuming in Chinese if the locale is Chinese."""
    if not text or not _is_chinese():
        return text
    from ..events.state import RECOVERING, RESUMING

    for english, chinese in ((RECOVERING, "任务恢复中..."), (RESUMING, "从断点恢复...")):
        if text.startswith(english):
            return chinese + text.removeprefix(english).replace(" at ", " ", 1)
    return text


def _is_chinese() -> bool:
    """Whether the locale is Chinese, by the variables of POSIX in their order."""
    locales = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next(filter(None, locales), "").lower().startswith("zh")


_WORDS = re.compile(r"(\s*)((?:`[^`\s][^`]{0,60}`|\S)+)")
"""A word. Text between backticks is for copying, so it counts as one word."""
_GAP = 2
_INDENT = 4
_NARROWEST = 4
_LEAST = {"name": 16, "text": 24}
"""Columns that a cell needs to be readable when it goes over several lines."""


class Column(msgspec.Struct, frozen=True):
    """A column of a table, and what happens to it if there is too little room."""

    heading: str
    kind: Literal["word", "name", "text"] = "word"
    """A word stays whole; a name or a text may go over several lines, and a text needs more room to be readable."""
    right: bool = False
    leaves: int = 0
    """The column with the highest number is the first to move to a line below. One with 0 stays."""
    extra: bool = False
    """Whether the column is left out instead of moved below; `--wide` shows it."""


def wrapped(text: str, width: int, *, indent: str = "", hang: str = "") -> list[str]:
    """Break the text into lines of at most `width` columns, the first after `indent`, the others after `hang`.

    Only a word that is longer than a line exceeds it: it is not broken, so that it can still be copied.
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
    """Break the text into pieces of at most `width` columns, between words if possible, else anywhere."""
    from rich.cells import cell_len, chop_cells

    return [
        piece
        for line in wrapped(text, width)
        for piece in (chop_cells(line, width) if cell_len(line) > width else [line])
    ]


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """Yield the lines of a table, headings first. `width`: of the screen; None for lines as long as needed."""
    for lines in table_rows(columns, rows, width):
        yield from lines


def table_rows(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[list[str]]:
    """The same, but with the lines of the headings and of each row together."""
    from rich.cells import cell_len

    natural = [
        max((cell_len(column.heading), *(cell_len(row[place]) for row in rows))) for place, column in enumerate(columns)
    ]
    inline = _side_by_side(columns, natural, width)
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


def _side_by_side(columns: Sequence[Column], natural: Sequence[int], width: int | None) -> list[int]:
    """Return the places of the columns that stay side by side."""
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
    """Return the width of each column: its need, and as much of the remaining room as it can use."""
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
    """Yield the values that do not fit on the row's own line: short ones together, texts on a line each."""
    short = [f"{column.heading.lower()} {text}" for column, text in values if text and column.kind == "word"]
    if short:
        yield from wrapped(" · ".join(short), width, indent=" " * _INDENT, hang=" " * _INDENT)
    for column, text in values:
        if text and column.kind != "word":
            labelled = f"{column.heading.lower()}: {text}"
            yield from wrapped(labelled, width, indent=" " * _INDENT, hang=" " * (_INDENT + 2))


def width_of(stream: TextIO) -> int | None:
    """Return the columns of the stream's terminal, or None if it is no terminal."""
    if not stream.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL
    except OSError:
        return _USUAL


_USUAL = 80


def print_json(value: Any) -> None:
    """Print a JSON value on a line of its own."""
    click.echo(for_stream(msgspec.json.encode(value), sys.stdout))


_UNSURE = r"\r(?!\n)|[^\x20-\x7e\r\n]"
_unsure, _unsure_bytes = re.compile(_UNSURE), re.compile(_UNSURE.encode())


def for_stream(written: bytes, stream: IO[Any]) -> bytes:
    r"""Prepare lines of JSON or CSV for the stream: on a terminal, unprintable characters are written as `\uXXXX`.

    The JSON stays equivalent. A log may hold any text, such as messages of handlers, and must not steer a terminal.
    """
    if not _unsure_bytes.search(written) or not stream.isatty():
        return written
    return _unsure.sub(_escaped, written.decode()).encode()


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def say(text: str, *, err: bool = False, hang: str = "") -> None:
    """Print text for people: on a terminal its lines are wrapped between words, elsewhere they stay as they are.

    `hang` is put before each continued line, after the line's own indent.
    """
    click.echo(fitted(text, width_of(sys.stderr if err else sys.stdout), hang), err=err)


def fitted(text: str, width: int | None, hang: str = "") -> str:
    """Return the text with lines of at most `width` columns. `hang`: see `say`."""
    lines: list[str] = []
    for line in text.split("\n"):
        if width is None or 2 * len(line) <= width:  # no character takes more than two columns
            lines.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        lines += wrapped(line, width, indent=indent, hang=indent + hang)
    return "\n".join(lines)


def print_pairs(pairs: Iterable[tuple[str, str]], indent: int = 0) -> None:
    """Print names and values, the values aligned; on a terminal, long values continue below their beginning."""
    rows = list(pairs)
    width = width_of(sys.stdout)
    wide = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        before = f"{'':{indent}}{name:{wide}}  "
        if width is None or len(before) + 2 * len(value) < width:  # no character takes more than two columns
            click.echo(f"{before}{value}".rstrip())
            continue
        longest = max(map(len, value.split()))
        hang = " " * next((room for room in (len(before), indent + 4) if room + longest <= width), 0)
        click.echo("\n".join(wrapped(value, width, indent=before, hang=hang)))


class TerminalLayout(msgspec.Struct, frozen=True):
    """How tables and times are printed: the terminal's width, and the moment from which ages count."""

    now: datetime
    width: int | None
    """Columns of the terminal; None in a pipe and with `--wide`: lines as long as needed, and whole times."""
    dated: bool = False
    """Whether times are always whole: for an earlier moment it would be unclear from when ages count."""

    @classmethod
    def on_stdout(cls, now: datetime, *, wide: bool, dated: bool = False) -> Self:
        """Return the layout for standard output, in its width; with `wide`, lines are as long as needed."""
        return cls(now, None if wide else width_of(sys.stdout), dated)

    def when(self, at: datetime | None) -> str:
        """Format a time: how long ago on a terminal, else to the second."""
        return moment(at) if self.dated or self.width is None else ago(at, self.now)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Print a table that fits the screen and cuts nothing off; texts are printed literally, never as markup."""
        click.echo("\n".join(self.lines(columns, rows)))

    def lines(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[str]:
        """Return the lines of such a table."""
        return list(table(columns, [[plain(cell) for cell in row] for row in rows], self.width))


def as_text(value: Any) -> str:
    """Return a field's value in words; JSON for values with parts."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return plain(value)
        case float():
            return f"{value:g}"
        case int():
            return str(value)
        case _ if not value and isinstance(value, dict | list | tuple):
            return "-"
        case _:
            # With spaces, so that a long one can continue on the next line.
            return plain(json.dumps(msgspec.to_builtins(value), ensure_ascii=False))
