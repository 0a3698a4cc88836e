"""What goes to standard output: JSON lines, aligned pairs, tables."""

from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from .words import plain


def print_json(value: Any) -> None:
    """One JSON value on a line of its own."""
    click.echo(msgspec.json.encode(value))


def print_pairs(pairs: Iterable[tuple[str, str]], indent: int = 0) -> None:
    """Names and values, the values aligned."""
    rows = list(pairs)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{'':{indent}}{name:{width}}  {value}".rstrip())


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """A table that fits the terminal; in a pipe every line is as long as it needs to be.

    Args:
        headings: one for each column.
        rows: the cells; texts are shown as they are, never as markup.
        right: the columns aligned to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    sides = set(right)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number in sides else "left", overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000, soft_wrap=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


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
            return plain(msgspec.json.encode(value).decode())
