"""Opens a log by its place in the data folder: the one function for whoever writes it, and the one for who reads it."""

from datetime import datetime
from pathlib import Path

from .event_log import EventLog
from .log_reader import LogReader
from .sqlite import SqliteEventLog, SqliteLogReader


def open_log(place: Path, *, now: datetime, encrypted: bool = False, master: Path | None = None) -> EventLog:
    """The log at that place, to write it: an older service's next append is refused.

    `encrypted`: what is personal of new tasks; `master`: where the master key of the keys lies.
    """
    return SqliteEventLog(place, now=now, encrypted=encrypted, master=master)


def read_log(place: Path) -> LogReader:
    """A reader of the log at that place, for one thread."""
    return SqliteLogReader(place)
