"""Looks at a log on PostgreSQL from outside, for who waits to take it over."""

from pathlib import Path

import psycopg

from ...errors import LogUnreachable
from ..address import read_address
from .connection import Conn, Database, is_lost
from .ownership import is_free


class OwnerWatch:
    """Says whether a log can be taken. A connection that was lost is made again with the next look."""

    def __init__(self, place: Path) -> None:
        self._database = Database(read_address(place))
        self._conn: Conn | None = None

    def is_free(self) -> bool:
        """Whether no service has it, or its heart has stopped. Not while the server does not answer."""
        try:
            self._conn = self._conn or self._database.connect("standby", writes=True)
            return is_free(self._conn)
        except LogUnreachable:
            return False
        except psycopg.Error as error:
            if self._conn is None or not is_lost(self._conn):
                raise self._database.explained(error, "cannot be read") from error
            self._conn = None
            return False

    def close(self) -> None:
        """Let go of the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None
