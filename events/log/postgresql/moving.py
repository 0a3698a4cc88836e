"""Moves a whole log into PostgreSQL, row by row as it is stored, and holds one while it is moved out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from ...errors import DataNotEmpty, InvalidPath
from ...recorded import timestamp
from ..chain import checksum
from ..event_log import Epoch
from . import ownership
from .connection import Conn, Database
from .log import COPY_ANSWERS, COPY_EVENTS, copy_in
from .schema import has_log
from .texts import escaped, escaped_row

_COPY_EPOCHS = "COPY tasktrail.epochs (epoch, pid, host, started_at, sum) FROM STDIN"


class OwnedLog(NamedTuple):
    """A log that this process alone owns."""

    conn: Conn
    name: str
    epoch: int


@contextmanager
def owned_log(address: str, now: datetime, *, begin: bool) -> Iterator[OwnedLog]:
    """Take the log at an address and hold it. An older service can append nothing more.

    `begin`: begin a log if there is none. Raises `DataInUse` if a service works on it, `InvalidPath` if there is none,
    `LogCorrupt` and `LogTooNew`.
    """
    database = Database(address)
    conn = database.connect("migrate", writes=True)
    try:
        if not begin and not has_log(conn):
            raise InvalidPath(f"There is no log at {database.name}", field="from")
        ownership.prepare(conn, database.name)
        heart = ownership.Heart(database, ownership.lock(conn, database.name))
        try:
            epoch = heart.epoch = ownership.take(conn, database.name, os.getpid(), now)
            yield OwnedLog(conn, database.name, epoch)
        finally:
            heart.stop()
    except psycopg.Error as error:
        raise database.explained(error, "cannot be written") from error
    finally:
        conn.close()


def fill(
    target: OwnedLog,
    rows: Iterable[tuple[Any, ...]],
    answers: Iterable[tuple[Any, ...]],
    epochs: Sequence[Epoch],
    now: datetime,
) -> None:
    """Put a whole log into an empty one, all or nothing. Its last epoch is that of the process that moves it.

    Raises `DataNotEmpty` and `psycopg.Error`.
    """
    mover = Epoch(max(len(epochs) + 1, target.epoch), os.getpid(), os.uname().nodename, timestamp(now))
    with target.conn.transaction():
        if target.conn.execute("SELECT 1 FROM tasktrail.events LIMIT 1").fetchone():
            raise DataNotEmpty(f"{target.name} holds another log already", remedy="Move it into an empty database.")
        target.conn.execute("DELETE FROM tasktrail.epochs")
        copy_in(target.conn, COPY_EVENTS, map(escaped_row, rows))
        copy_in(target.conn, COPY_ANSWERS, ((escaped(row[0]), *row[1:], checksum(row)) for row in answers))
        gap = [
            Epoch(number, mover.pid, mover.host, mover.started_at) for number in range(len(epochs) + 1, mover.number)
        ]
        copy_in(target.conn, _COPY_EPOCHS, ((*one, checksum(one)) for one in (*epochs, *gap, mover)))
        target.conn.execute("UPDATE tasktrail.owner SET epoch = %s", (mover.number,))
