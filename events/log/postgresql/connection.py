"""Connections to the database of a log, and what its errors mean, as errors of ours with a remedy of their own."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ...errors import (
    ConcurrencyError,
    ConfigurationError,
    DiskFailed,
    LogCorrupt,
    LogFull,
    LogLocked,
    LogNotWritable,
    LogUnreachable,
    OutcomeUnknown,
    TasktrailError,
)
from ..address import shown

Conn: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Values: TypeAlias = Sequence[object] | dict[str, object]

_IN_CARE: dict[str, str] = {
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""So that a cut cable is noticed, which by default takes hours. The address may say otherwise."""
_SERVER_IN_CARE = """
    SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 4000
"""
"""The same on the other side, which holds the locks of whoever is gone."""


class Database:
    """Connects to the database of a log."""

    def __init__(self, address: str) -> None:
        self.name = shown(address)
        """For messages."""
        self._address = address

    def connect(self, role: str, *, writes: bool = False) -> Conn:
        """A connection on which each statement is a transaction of its own, unless it says `BEGIN`.

        `role`: what PostgreSQL's own tools show of who it is; `writes`: so no server that only follows another will do,
        whatever the address says.
        """
        try:
            given = conninfo_to_dict(self._address)
            # A replica may lag behind, and whoever reads here has to see what was acknowledged.
            wanted = {**_IN_CARE, "application_name": f"tasktrail {role}", "target_session_attrs": "primary", **given}
            if writes:
                wanted["target_session_attrs"] = "read-write"
            conn = psycopg.connect(make_conninfo("", **wanted), autocommit=True)
        except psycopg.Error as error:
            raise self.explained(error, "cannot be reached") from error
        try:
            conn.execute(_SERVER_IN_CARE)
        except psycopg.Error as error:
            conn.close()
            raise self.explained(error, "cannot be reached") from error
        return conn

    def explained(self, error: psycopg.Error, what: str) -> TasktrailError:
        """What an error of PostgreSQL means for the log."""
        told = " ".join(str(error).split())
        text = f"{self.name} {what}: {told}"
        for kind, ours, remedy in _MEANINGS:
            if isinstance(error, kind):
                return ours(text, remedy=remedy) if remedy else ours(text)
        lost = isinstance(error, errors.OperationalError | errors.InterfaceError)
        return LogUnreachable(text) if lost else OutcomeUnknown(text)


_MEANINGS: tuple[tuple[type[psycopg.Error] | tuple[type[psycopg.Error], ...], type[TasktrailError], str], ...] = (
    (errors.UniqueViolation, ConcurrencyError, ""),
    (
        errors.DiskFull,
        LogFull,
        (
            "Free disk space on the database's server: the service then goes on by itself. Whoever has sent a command "
            "repeats it with the same command id."
        ),
    ),
    (errors.IoError, DiskFailed, "Look at the messages of the database's server and at its disk."),
    (
        (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction),
        LogNotWritable,
        (
            "Let the user of the address own the schema `tasktrail`, or create schemas in the database, on a server "
            "that takes writes. Whoever has sent a command repeats it with the same command id."
        ),
    ),
    (
        (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected, errors.SerializationFailure),
        LogLocked,
        (
            "See in pg_stat_activity who holds locks on the tables of the schema `tasktrail`: once they are free, the "
            "service goes on by itself. Whoever has sent a command repeats it with the same command id."
        ),
    ),
    (
        (errors.DataCorrupted, errors.IndexCorrupted),
        LogCorrupt,
        "Look at the messages of the database's server, and restore the database from its backup.",
    ),
    (
        (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName),
        LogCorrupt,
        "The schema `tasktrail` is not as it was made: restore the database from its backup.",
    ),
)


def is_lost(conn: Conn) -> bool:
    """Whether the server, or the way to it, is gone."""
    return conn.closed or conn.broken


def roll_back(conn: Conn) -> None:
    """End what was begun. A connection on which that is not possible is closed, which the server takes for the same."""
    with suppress(psycopg.Error):
        if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            conn.execute("ROLLBACK")
        if conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
    conn.close()


def refuse_unsafe(conn: Conn, name: str) -> None:
    """Raises `ConfigurationError` where a commit would not be on the disk when it is acknowledged."""
    told = conn.execute(
        "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_encoding')"
    ).fetchone()
    if told != ("on", "on", "UTF8"):
        raise ConfigurationError(
            f"{name} runs with fsync, full_page_writes and server_encoding {told}, not on, on and UTF8",
            field="log",
            remedy="Set both to `on` in postgresql.conf; a database in UTF-8 is made by "
            "`createdb --encoding=UTF8 --template=template0 NAME`.",
        )
    conn.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
