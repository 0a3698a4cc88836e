"""Connections to the database of a log, and its errors, translated into errors of ours with a remedy."""

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
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
"""So that a cut cable is noticed soon; by default that takes hours. The address may override these."""
_SERVER_IN_CARE = """
    SET statement_timeout = 0;
    SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 4000;
    SET DateStyle = 'ISO'; SET default_transaction_isolation = 'read committed';
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN (
        'lock_timeout', 'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout')
"""
"""The same on the server, which holds the locks of a client that is gone; and settings that a role may have changed.

`statement_timeout` comes first and alone, because the last statement here takes some milliseconds.
"""
_AS_NEEDED = {"client_encoding": "UTF8"}
_KEEP_SAFE = """
    SELECT current_setting('server_encoding'), pg_backend_pid(), set_config(
        'synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false)
"""
"""Set for the session, so that the mode stays when the server's configuration changes."""
SAFETY = "current_setting('fsync'), current_setting('full_page_writes'), pg_backend_pid()"
"""The columns whose values `refuse_changed` gets."""


class Database:
    """Connects to the database of a log."""

    def __init__(self, address: str) -> None:
        self.name = shown(address)
        """The address as it is shown in messages."""
        self._address = address

    def connect(self, role: str, *, writes: bool = False, patience: int = 10) -> Conn:
        """A connection on which each statement is a transaction of its own, unless it says `BEGIN`.

        `role`: the name that PostgreSQL's own tools show for it. `writes`: whether the server has to accept writes. A
        replica is never used, whatever the address says: it may lag, and a reader has to see all acknowledged records.
        `patience`: seconds that a server may be silent, unless the address says otherwise.
        """
        silence = {"connect_timeout": str(patience), "tcp_user_timeout": str(patience * 1000)}
        try:
            given = self._parts()
            wanted = {**_IN_CARE, **silence, "application_name": f"tasktrail {role}", **given, **_AS_NEEDED}
            wanted["target_session_attrs"] = "read-write" if writes else "primary"
            conn = psycopg.connect(make_conninfo("", **wanted), autocommit=True)
        except psycopg.ProgrammingError as error:  # its client library has not even tried
            raise self._not_understood(f": {error}") from error
        except psycopg.Error as error:
            explained = self.explained(error, "cannot be reached")
            if isinstance(explained, LogUnreachable) and any(words in explained.message for words in _NO_WRITES):
                raise LogUnreachable(explained.message, remedy=_LET_WRITE) from error
            raise explained from error
        try:
            conn.execute(_SERVER_IN_CARE)
        except psycopg.Error as error:
            conn.close()
            raise self.explained(error, "cannot be reached") from error
        return conn

    def _parts(self) -> dict[str, Any]:
        """The parameters of the address. The library's message may repeat a mistyped one, which may be a password."""
        try:
            return conninfo_to_dict(self._address)
        except psycopg.ProgrammingError:
            raise self._not_understood() from None

    def _not_understood(self, why: str = "") -> ConfigurationError:
        return ConfigurationError(
            f"{self.name} was not asked: PostgreSQL's client library does not understand the address of the log{why}",
            field="log",
            remedy="Write it as `postgresql://USER@HOST:PORT/DATABASE?NAME=VALUE`, with the names of parameters that "
            "the library knows (`sslmode`, `connect_timeout`), and a `%` as %25. If DATA/log.postgresql holds it, "
            "mend it there.",
        )

    def explained(self, error: psycopg.Error, failure: str) -> TasktrailError:
        """The error of ours for an error of PostgreSQL."""
        text = f"{self.name} {failure}: {primary_message(error)}"
        for kinds, error_class, remedy in _MEANINGS:
            if isinstance(error, kinds):
                return error_class(text, remedy=remedy) if remedy else error_class(text)
        return OutcomeUnknown(text) if is_refusal(error) else LogUnreachable(text)

    def broken_text(self, error: UnicodeDecodeError) -> LogCorrupt:
        """The error when the server sends invalid text: it checks texts that it receives, not those that it reads."""
        return LogCorrupt(f"{self.name} cannot be read: a text in it is no UTF-8: {error.reason}", remedy=RESTORE)


RESTORE = "Restore the database from its backup."
_NO_WRITES = ("session is read-only", "server is in hot standby mode")
"""What the client library says of a server that was reached. It has no code for it."""
_LET_WRITE = (
    "The server answers and takes no writes: see `default_transaction_read_only` there, and whether it is a replica. "
    "Once it takes writes, a running service goes on by itself. If you sent a command, repeat it with the same command "
    "id."
)
_NOT_NOW = ("08", "28", "3D", "53", "57P")
"""Classes of errors of an unreachable log: the connection, the login, the database, its resources, a shutdown."""
_MEANINGS: tuple[tuple[tuple[type[psycopg.Error], ...], type[TasktrailError], str], ...] = (
    ((errors.UniqueViolation,), ConcurrencyError, ""),
    (
        (errors.DiskFull,),
        LogFull,
        (
            "Free disk space on the database's server: a running service then goes on by itself. If you sent a "
            "command, repeat it with the same command id."
        ),
    ),
    ((errors.IoError,), DiskFailed, "Look at the messages of the database's server and at its disk."),
    (
        (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction),
        LogNotWritable,
        (
            "Let the user of the address own the schema `tasktrail`, or create schemas in the database, on a server "
            "that takes writes. If you sent a command, repeat it with the same command id."
        ),
    ),
    (
        (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected, errors.SerializationFailure),
        LogLocked,
        (
            "See in pg_stat_activity who holds locks on the tables of the schema `tasktrail`: once they are free, a "
            "running service goes on by itself. If you sent a command, repeat it with the same command id."
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


def primary_message(error: psycopg.Error) -> str:
    """The error's message without its details, which may hold values of columns."""
    return " ".join((error.diag.message_primary or str(error)).split())


def is_refusal(error: psycopg.Error) -> bool:
    """Whether the server, or the library, refuses the statement and would do so again."""
    if any(isinstance(error, kinds) for kinds, *_ in _MEANINGS):
        return False
    if error.sqlstate is None:
        return not isinstance(error, errors.OperationalError | errors.InterfaceError)
    return not error.sqlstate.startswith(_NOT_NOW)


def is_lost(conn: Conn) -> bool:
    """Whether the server, or the connection to it, is gone."""
    return conn.closed or conn.broken


def roll_back(conn: Conn) -> None:
    """Roll back an open transaction. If that fails, close the connection, at which the server rolls back."""
    with suppress(psycopg.Error):
        if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            conn.execute("ROLLBACK")
        if conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
    conn.close()


def refuse_unsafe(conn: Conn, name: str) -> int:
    """Raise `ConfigurationError` if a commit would not be on the disk when it is acknowledged.

    Returns the pid of the server's process, for `refuse_changed`.
    """
    encoding, pid, _ = conn.execute(_KEEP_SAFE).fetchall()[0]
    fsync, full_pages, _ = conn.execute(f"SELECT {SAFETY}").fetchall()[0]
    found = (fsync, full_pages, encoding)
    if found != ("on", "on", "UTF8"):
        raise ConfigurationError(
            f"{name} runs with fsync, full_page_writes and server_encoding {found}, not on, on and UTF8",
            field="log",
            remedy="Set both to `on` in postgresql.conf; a database in UTF-8 is made by "
            "`createdb --encoding=UTF8 --template=template0 NAME`.",
        )
    return int(pid)


def refuse_changed(name: str, pid: int, settings: tuple[Any, ...]) -> None:
    """Raise `LogNotWritable` if settings or session have changed since the start. `settings`: those of `SAFETY`."""
    fsync, full_pages, process = settings
    if (fsync, full_pages) != ("on", "on"):
        raise LogNotWritable(
            f"{name} runs with fsync {fsync} and full_page_writes {full_pages} now",
            remedy="Set both to `on` in postgresql.conf and reload it: a running service then goes on by itself. If "
            "you sent a command, repeat it with the same command id.",
        )
    if process != pid:
        raise LogNotWritable(
            f"{name} is reached by a pooler that gives each transaction another session",
            remedy="Let the address lead to PostgreSQL itself, or to a pooler in session mode.",
        )
