"""Opens a log by its place in the data folder: one function for its writer, one for its readers."""

from datetime import datetime
from importlib import import_module
from pathlib import Path

from ..errors import ConfigurationError
from ..existence import exists
from .address import is_address
from .event_log import EventLog
from .log_reader import LogReader
from .sqlite import SqliteEventLog
from .sqlite_connection import is_begun as is_begun_in_file
from .sqlite_reader import SqliteLogReader


def open_log(
    place: Path,
    *,
    now: datetime,
    encrypted: bool = False,
    master: Path | None = None,
    accept_lost_keys: bool = False,
) -> EventLog:
    """Open the log at that place for writing: an older service's next append is refused.

    `encrypted`: encrypt the personal data of new tasks; `master`: the file of the master key; `accept_lost_keys`: do
    not refuse a log whose keys are missing.
    """
    if is_address(place):
        need_client()
        from .postgresql.log import PostgresqlEventLog  # noqa: PLC0415 - its library is optional

        return PostgresqlEventLog(place, now=now, encrypted=encrypted, master=master, accept_lost_keys=accept_lost_keys)
    return SqliteEventLog(place, now=now, encrypted=encrypted, master=master, accept_lost_keys=accept_lost_keys)


def read_log(place: Path) -> LogReader:
    """A reader of the log at that place, for one thread."""
    if is_address(place):
        need_client()
        from .postgresql.reader import PostgresqlLogReader  # noqa: PLC0415 - its library is optional

        return PostgresqlLogReader(place)
    return SqliteLogReader(place)


def has_no_log(place: Path) -> bool:
    """Whether no log was ever begun in a file there. Always false for PostgreSQL, where only the database knows."""
    return not exists(place) if is_address(place) else not is_begun_in_file(place)


def is_begun(place: Path) -> bool:
    """Whether there is a log at that place; if not, opening it begins one. Raises `LogUnreachable` and `LogCorrupt`."""
    if is_address(place) and exists(place):
        need_client()
        from .postgresql.reader import is_begun as has_log  # noqa: PLC0415 - its library is optional

        return has_log(place)
    return is_begun_in_file(place)


def need_client() -> None:
    """Raise `ConfigurationError` if the library that talks to PostgreSQL is not installed."""
    try:
        import_module("psycopg")
    except ImportError as error:  # it is missing, or finds no libpq
        raise ConfigurationError(
            f"The log is on PostgreSQL, and the library that talks to it cannot be used: {error}",
            field="log",
            remedy="Install tasktrail[postgresql].",
        ) from error
