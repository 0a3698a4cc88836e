"""Reports about a log that is not as its writer made it."""

import re
import sqlite3
from typing import NamedTuple

from ..errors import TasktrailError

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""SQLite's message may repeat bytes of a damaged schema, which Python then cannot decode."""


def without_place(message: str, position: int) -> str:
    """An error's message without its position, for places that show the position separately."""
    return re.sub(rf"^Position {position}:? ", "", message)


class Fault(NamedTuple):
    """One thing that is wrong."""

    position: int
    code: str
    """schema, file, index, epoch, archive, chain, gap, stub, unreadable or answer; newer: a newer version wrote it."""
    message: str


class Damage(NamedTuple):
    """Takes the place of a row that cannot be read."""

    position: int
    reason: str
    last: int = 0
    """The last position that it covers; 0: only `position`."""
    code: str = "unreadable"
    """As that of a `Fault`."""
    error: TasktrailError | None = None
    """Why the system cannot read it; then it need not be damaged."""

    @property
    def end(self) -> int:
        """The last position that it covers."""
        return max(self.position, self.last)
