"""Tables of Markdown as columns of equal width, in letters of equal width."""

import re
from collections.abc import Sequence

from .inline import styled

_MOST_COLUMNS, _WIDEST = 40, 40
"""Beyond, nothing is lined up: a few bytes must not become a page of blanks."""
_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r":?-+:?")
_BETWEEN = "  "


def table_lines(lines: Sequence[str]) -> list[str]:
    """The rows with their cells below each other; as they stand if there are too many columns."""
    rows = [_cells(line) for line in lines]
    count = max(map(len, rows))
    if count > _MOST_COLUMNS:
        return list(lines)
    shown = [row for row in rows if not _is_rule(row)]
    widths = [min(_WIDEST, max((len(row[at]) for row in shown if at < len(row)), default=0)) for at in range(count)]
    to_right = next((_to_right(row, count) for row in rows if _is_rule(row)), [False] * count)
    return [_line(row, widths, to_right) for row in rows]


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|")
    cells = _BAR.split(inside)
    if len(cells) > 1 and not cells[-1].strip():
        cells.pop()
    return [styled(cell.replace(r"\|", "|").strip()).text for cell in cells]


def _is_rule(row: Sequence[str]) -> bool:
    return all(map(_RULE.fullmatch, row))


def _to_right(rule: Sequence[str], count: int) -> list[bool]:
    found = [cell.endswith(":") and not cell.startswith(":") for cell in rule]
    return found + [False] * (count - len(found))


def _line(row: Sequence[str], widths: Sequence[int], to_right: Sequence[bool]) -> str:
    if _is_rule(row):
        return _BETWEEN.join("─" * width for width in widths)
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(row, widths, to_right, strict=False)
    )
    return _BETWEEN.join(padded).rstrip()
