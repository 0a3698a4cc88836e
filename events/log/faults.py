"""What is said of a log that is not as its writer made it."""

import re
import sqlite3
from typing import NamedTuple

from ..errors import TasktrailError

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""SQLite's complaint may repeat what it found in a damaged schema, which Python then cannot read."""


def without_place(message: str, position: int) -> str:
    """What an error says, where its position is told beside it."""
    return re.sub(rf"^Position {position}:? ", "", message)


class Fault(NamedTuple):
    """One thing that is wrong."""

    position: int
    code: str
    """schema, file, index, archive, chain, gap, stub, unreadable or answer; newer for what a newer version wrote."""
    message: str


class Damage(NamedTuple):
    """Stands where a row should be."""

    position: int
    reason: str
    last: int = 0
    """Up to here nothing more is told; 0: only of this one."""
    code: str = "unreadable"
    """As that of a `Fault`."""
    error: TasktrailError | None = None
    """Why the system does not let it be read; nothing says then that it is damaged."""

    @property
    def end(self) -> int:
        """The last position that it speaks of."""
        return max(self.position, self.last)
