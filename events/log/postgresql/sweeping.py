"""Has PostgreSQL let go of rows that were dropped, on a connection and a thread of its own: no append waits for it."""

import threading
from contextlib import closing, suppress

import psycopg

from ...errors import TasktrailError
from .connection import Conn, Database

_STOPS_WITHIN = 5.0
_SWEEP = ("VACUUM (ANALYZE) tasktrail.events", "VACUUM (ANALYZE) tasktrail.answers")
"""Samples of the old values are in the statistics, too, until those are made anew."""


class Sweep:
    """One at a time. Its methods belong to the thread of whoever has the log."""

    def __init__(self, database: Database, *, due: bool) -> None:
        """`due`: rows were dropped before, and nobody knows whether they were swept."""
        self._database = database
        self.due = due
        """Whether the next look has one begin."""
        self._trouble: TasktrailError | None = None
        self._conn: Conn | None = None
        self._stopping = False
        self.thread: threading.Thread | None = None

    def look(self) -> None:
        """Begin, if it is due. Raises what kept the last one from its end, which is then due again."""
        if self.thread is not None and self.thread.is_alive():
            return
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            self.due = True
            raise trouble
        if self.due:
            self.due = False
            self.thread = threading.Thread(target=self._run, name="log-sweep", daemon=True)
            self.thread.start()

    def _run(self) -> None:
        try:
            with closing(self._database.connect("sweep", writes=True)) as conn:
                self._conn = conn
                for statement in _SWEEP:
                    if self._stopping:
                        return
                    conn.execute(statement)
        except psycopg.Error as error:
            self._trouble = self._database.explained(error, "cannot be swept")
        except TasktrailError as error:
            self._trouble = error
        finally:
            self._conn = None

    def stop(self) -> None:
        """Begin no more, and end the one that runs; the next to have the log begins anew."""
        self._stopping = True
        conn, thread = self._conn, self.thread
        if thread is not None:
            if conn is not None:
                with suppress(psycopg.Error):
                    conn.cancel_safe(timeout=_STOPS_WITHIN)
            thread.join(_STOPS_WITHIN)
