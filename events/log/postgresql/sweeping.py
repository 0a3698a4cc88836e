"""Makes PostgreSQL remove dropped rows, on its own connection and thread, so that no append waits for it."""

import threading
from contextlib import closing, suppress

import psycopg

from ...errors import TasktrailError
from .connection import Conn, Database

_STOPS_WITHIN = 5.0
_SWEEP = ("VACUUM (ANALYZE) tasktrail.events", "VACUUM (ANALYZE) tasktrail.answers")
"""With ANALYZE, because the statistics hold samples of old values until they are made anew."""


class Sweep:
    """The sweeps of a log, one at a time. Its methods belong to the thread that owns the log."""

    def __init__(self, database: Database, *, due: bool) -> None:
        """`due`: rows were dropped before, and it is not known whether they were swept."""
        self._database = database
        self.due = due
        """Whether the next `begin_if_due` begins a sweep."""
        self._trouble: TasktrailError | None = None
        self._conn: Conn | None = None
        self._stopping = False
        self.thread: threading.Thread | None = None

    def begin_if_due(self) -> None:
        """Begin a sweep if it is due. Raises the error of the last sweep if it failed; then a sweep is due again."""
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
        """Begin no more sweeps and end the running one; the next owner of the log begins anew."""
        self._stopping = True
        conn, thread = self._conn, self.thread
        if thread is not None:
            if conn is not None:
                with suppress(psycopg.Error):
                    conn.cancel_safe(timeout=_STOPS_WITHIN)
            thread.join(_STOPS_WITHIN)
