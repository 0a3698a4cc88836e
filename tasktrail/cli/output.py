"""What goes to standard output: JSON lines, aligned pairs, tables."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TextIO

import click
import msgspec

from .layout import Column, table, wrapped
from .words import ago, moment, plain


def width_of(stream: TextIO) -> int | None:
    """Columns of the terminal behind the stream, or `None` when none is."""
    if not stream.isatty():
        return None
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL
    except OSError:
        return _USUAL


_USUAL = 80


def print_json(value: Any) -> None:
    """One JSON value on a line of its own."""
    click.echo(msgspec.json.encode(value))


def say(text: str, *, err: bool = False, hang: str = "") -> None:
    """Text for people: on a terminal its lines are wrapped between words, elsewhere they are as long as they are.

    `hang` stands before each line that goes on, behind the line's own indent.
    """
    click.echo(fitted(text, width_of(sys.stderr if err else sys.stdout), hang), err=err)


def fitted(text: str, width: int | None, hang: str = "") -> str:
    """The text with lines of at most `width` columns. `hang`: see `say`."""
    lines: list[str] = []
    for line in text.split("\n"):
        if width is None or 2 * len(line) <= width:  # no character takes more than two columns
            lines.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        lines += wrapped(line, width, indent=indent, hang=indent + hang)
    return "\n".join(lines)


def print_pairs(pairs: Iterable[tuple[str, str]], indent: int = 0) -> None:
    """Names and values, the values aligned; on a terminal long ones go on below their beginning."""
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


class Paper(msgspec.Struct, frozen=True):
    """What tables are printed on."""

    now: datetime
    width: int | None
    """Columns of the terminal; `None` in a pipe and with `--wide`: lines as long as they need to be, whole times."""

    def when(self, at: datetime | None) -> str:
        """A time: how long ago where columns count, else to the second."""
        return moment(at) if self.width is None else ago(at, self.now)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """A table that fits the screen and cuts nothing; texts are shown as they are, never as markup."""
        click.echo("\n".join(self.lines(columns, rows)))

    def lines(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[str]:
        """The lines of such a table."""
        return list(table(columns, [[plain(cell) for cell in row] for row in rows], self.width))


def as_text(value: Any) -> str:
    """A field's value as a person reads it; JSON for what has an inside."""
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
            # With spaces, so that a long one can go on in the next line.
            return plain(json.dumps(msgspec.to_builtins(value), ensure_ascii=False))
