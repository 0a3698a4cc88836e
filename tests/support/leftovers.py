"""Puts into a log's file what SQLite may leave there of rows that it has moved."""

from collections.abc import Iterator
from pathlib import Path

WORD = b"qzxcanary"
_PAGE = 4096


def gaps_of(path: Path) -> Iterator[tuple[int, int]]:
    """Return the places of free space within pages that have rows."""
    content = path.read_bytes()
    for start in range(0, len(content), _PAGE):
        if (length := {2: 12, 5: 12, 10: 8, 13: 8}.get(content[start])) is not None:
            rows, begin = (int.from_bytes(content[start + at : start + at + 2]) for at in (3, 5))
            yield start + length + 2 * rows, start + begin


def plant(path: Path) -> int:
    """Write a word wherever SQLite might have left it, into the file of a closed log; return how often."""
    number = 0
    with path.open("r+b") as file:
        for begin, end in gaps_of(path):
            times = (end - begin) // len(WORD)
            file.seek(begin)
            file.write(WORD * times)
            number += times
    return number
