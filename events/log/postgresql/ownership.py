"""The ownership of a log: one service at a time may write it.

Each service that takes the log gets the next epoch, and every append checks in its own transaction that its epoch is
still the current one. That alone keeps an older service from writing. The rest makes taking over quick. Locks vanish
with the sessions of a dead service, and the heartbeat stops when a service hangs or its cable is cut. There are two
locks, of the log and of the heart, because a living service may lose one session.
"""

import socket
import threading
from contextlib import suppress
from datetime import datetime
from math import inf

import psycopg

from ...clock import boot_seconds
from ...errors import DataInUse, LogCorrupt, LogGone, LogTooNew, LogUnreachable, TasktrailError
from ...recorded import timestamp
from ..chain import checksum
from .connection import Conn, Database, refuse_unsafe
from .schema import create, schema_faults

LEASE = 5.0
"""Seconds without a heartbeat after which another service may take the log."""
BEAT_EVERY = 1.0
_LOOK_EVERY = 0.1
_LAST_EPOCH = 2**62
_KEY = (0x7461736B, 0x74726169)
_HEART = (0x7461736B, 0x68656172)
_TRY = "SELECT pg_try_advisory_lock(%s, %s)"
_END_HOLDER = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND objsubid = 2 AND pid != pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_IS_HELD = """
    EXISTS (
        SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid) IN ({}) AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""
_IS_FREE = f"""
    SELECT NOT {_IS_HELD.format("(%s, %s), (%s, %s)")}
        OR EXISTS (SELECT 1 FROM tasktrail.owner WHERE beat < clock_timestamp() - make_interval(secs => %s))
"""  # noqa: S608 - our own words
_HAS_HEART = f"SELECT {_IS_HELD.format('(%s, %s)')}"
_BEAT = "UPDATE tasktrail.owner SET beat = clock_timestamp() WHERE epoch = %s"
_BEAT_ANEW = "UPDATE tasktrail.owner SET beat = clock_timestamp() RETURNING epoch"
_LOOK = """
    SELECT epoch, extract(epoch FROM beat)::float8,
        extract(epoch FROM clock_timestamp())::float8 - extract(epoch FROM beat)::float8
    FROM tasktrail.owner
"""
"""In seconds, because a beat that somebody has altered may be infinite, or in no year that Python knows."""
_TAKE = "UPDATE tasktrail.owner SET epoch = epoch + 1, beat = clock_timestamp() RETURNING epoch"
_WHO = "SELECT pid, host, started_at FROM tasktrail.epochs WHERE epoch = %s"
_EPOCHS = "SELECT epoch, pid, host, started_at, sum FROM tasktrail.epochs ORDER BY epoch"


def lock(conn: Conn, name: str) -> int:
    """Lock the log for the session of this connection, once no other service has it; returns the present epoch.

    The heart of the service with the lock has to beat from then on.

    Raises `DataInUse` if another service has the log and its heart beats, and `psycopg.Error`.
    """
    pause = threading.Event()
    first = None
    was_silent = False
    while True:
        seen = conn.execute(_LOOK).fetchone()
        if seen is None:
            raise LogCorrupt(f"{name} does not say who owns it")
        epoch, beat, silent = seen
        is_silent = silent > LEASE
        if (is_silent or not conn.execute(_HAS_HEART, _HEART).fetchall()[0][0]) and _has_lock(conn):
            return int(conn.execute(_BEAT_ANEW).fetchall()[0][0])
        if is_silent and was_silent:  # a service that has just got the lock needs a moment to beat
            conn.execute(_END_HOLDER, _KEY)
        elif first is not None and beat != first:  # earlier, if the server's clock was set back
            raise DataInUse(
                f"{_owner_in_words(conn, epoch)} works on {name}", remedy="Talk to that service, or stop it first."
            )
        first, was_silent = beat if first is None else first, is_silent
        pause.wait(_LOOK_EVERY)


def prepare(conn: Conn, name: str) -> int:
    """Ensure a sound schema on a server whose commits are durable; returns the pid of the server's process.

    Raises `ConfigurationError`, `LogCorrupt`, `LogTooNew` and `psycopg.Error`.
    """
    pid = refuse_unsafe(conn, name)
    create(conn)
    for fault in schema_faults(conn):
        raise (LogTooNew if fault.code == "newer" else LogCorrupt)(f"{name}: {fault.message}")
    return pid


def take(conn: Conn, name: str, pid: int, now: datetime) -> int:
    """Take the log and return the new epoch. It waits for an append that is under way.

    Raises `LogCorrupt` and `psycopg.Error`.
    """
    with conn.transaction():
        row = conn.execute(_TAKE).fetchone()
        if row is None or row[0] > _LAST_EPOCH:
            raise LogCorrupt(f"{name} does not say how many services it has had: its epochs were altered")
        taken = (int(row[0]), pid, socket.gethostname(), timestamp(now))
        conn.execute("INSERT INTO tasktrail.epochs VALUES (%s, %s, %s, %s, %s)", (*taken, checksum(taken)))
    return taken[0]


def _has_lock(conn: Conn) -> bool:
    return conn.execute(_TRY, _KEY).fetchall() == [(True,)]


def is_free(conn: Conn) -> bool:
    """Whether no service has the log, or the heart of its service has stopped. Raises `psycopg.Error`."""
    if conn.execute("SELECT to_regclass('tasktrail.owner') IS NULL").fetchall() == [(True,)]:
        return True
    return conn.execute(_IS_FREE, (*_KEY, *_HEART, LEASE)).fetchall() == [(True,)]


def _owner_in_words(conn: Conn, epoch: int) -> str:
    row = conn.execute(_WHO, (epoch,)).fetchone()
    return f"The service with pid {row[0]} on {row[1]}, started at {row[2]}," if row else "Another service"


def resume(conn: Conn, name: str, epoch: int) -> bool:
    """Own the log on a new connection after the old one was lost; false when a newer service has taken it.

    The lock is free only when the old session is gone and its transaction is committed or rolled back. Only then the
    end of the log shows the outcome of an append. Raises `LogUnreachable`, `LogGone` and `psycopg.Error`.
    """
    pause = threading.Event()
    for _ in range(round(LEASE / _LOOK_EVERY)):
        seen = conn.execute(_LOOK).fetchone()
        if seen is not None and seen[0] < epoch:
            raise LogGone(
                f"{name} does not know of the service that owns it: that one has epoch {epoch}, and the last known "
                f"epoch is {seen[0]}",
                remedy="Check whether the server is a replica that had fallen behind; the next start says what is "
                "missing, and how to go on without it.",
            )
        if seen is None or seen[0] != epoch:
            return False
        if _has_lock(conn):
            return True
        conn.execute(_END_HOLDER, _KEY)  # the epoch is ours, so the session is ours
        pause.wait(_LOOK_EVERY)
    raise LogUnreachable(f"The old session on {name} does not end")


def epoch_faults(conn: Conn) -> list[str]:
    """Faults of the list of services that have had the log. Raises `psycopg.Error`."""
    rows = conn.execute(_EPOCHS).fetchall()
    for number, (*row, found) in enumerate(rows, 1):
        if row[0] != number:
            return [f"epoch {number} is missing: epoch {row[0]} stands in its place"]
        if tuple(map(type, row)) != (int, int, str, str) or checksum(row) != found:
            return [f"epoch {number} is not as it was written"]
    owners = [int(row[0]) for row in conn.execute(_LOOK)]
    return [] if owners == [len(rows)] else [f"the owner is {owners}, and the last known epoch is {len(rows)}"]


class Heart:
    """The heartbeat of a log's owner, on its own connection and thread, so that a long append does not stop it."""

    def __init__(self, database: Database, epoch: int) -> None:
        self._database = database
        self.epoch = epoch
        """The heart beats as long as the log has this epoch."""
        self.beaten_at = -inf
        """When the last beat that found this epoch began, in `boot_seconds`."""
        self._stopping = threading.Event()
        self._conn: Conn | None = None
        self._has_lock = False
        self._thread = threading.Thread(target=self._run, name="log-heart", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._beat()
            except (psycopg.Error, TasktrailError):  # the next append will find out
                self._release()
            if self._stopping.wait(BEAT_EVERY):
                self._release()
                return

    def _beat(self) -> None:
        conn = self._conn = self._conn or self._database.connect("heart", writes=True, patience=2)
        began = boot_seconds()
        with conn.transaction():  # with a pooler in between, the session may serve appends, too
            conn.execute("SET LOCAL synchronous_commit = off")
            beaten = conn.execute(_BEAT, (self.epoch,)).rowcount
        if not beaten:  # another service has the log, or this one is just taking it
            self.beaten_at = -inf
            self._release()
            return
        self.beaten_at = began
        if not self._has_lock:
            self._has_lock = conn.execute(_TRY, _HEART).fetchall() == [(True,)]

    def _release(self) -> None:
        self._has_lock = False
        if self._conn is not None:
            with suppress(psycopg.Error):
                self._conn.close()
            self._conn = None

    def stop(self) -> None:
        """Stop beating."""
        self._stopping.set()
        self._thread.join(LEASE)
