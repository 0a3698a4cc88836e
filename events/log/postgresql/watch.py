"""Watches a log on PostgreSQL from outside, for a standby that waits to take it over."""

from pathlib import Path

import psycopg

from ...errors import LogLocked, LogUnreachable
from ..address import read_address
from .connection import Conn, Database, is_lost
from .ownership import is_free

_LOOK_WITHIN = 5.0
"""Seconds. A server that takes longer, for its disk or a lock, would not let anyone take the log either."""


class OwnerWatch:
    """Says whether a log can be taken. A lost connection is replaced at the next look."""

    def __init__(self, place: Path) -> None:
        self._database = Database(read_address(place))
        self._conn: Conn | None = None

    def is_free(self) -> bool:
        """Whether no service has the log, or its heart has stopped. False while the server does not answer."""
        try:
            if self._conn is None:
                self._conn = self._database.connect("standby", writes=True)
                self._conn.execute("SELECT set_config('statement_timeout', %s, false)", (f"{_LOOK_WITHIN}s",))
            return is_free(self._conn)
        except (LogUnreachable, LogLocked):
            return False
        except psycopg.Error as error:
            explained = self._database.explained(error, "cannot be read")
            passes = self._conn is None or is_lost(self._conn) or isinstance(explained, LogUnreachable | LogLocked)
            self.close()
            if not passes:
                raise explained from error
            return False

    def close(self) -> None:
        """Let go of the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None
