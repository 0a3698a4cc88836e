"""Writes a whole log into a new file, row by row as it is stored."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from ..errors import LogCorrupt
from ..recorded import EVENT_TAGS
from ..system_events import SegmentArchived
from .archives import note_archive
from .chain import checksum
from .event_log import Epoch
from .files import sync
from .rows import COLUMNS
from .schema import APPLIED, epoch_sum, migrate
from .sqlite_errors import explained

_INSERT = f"INSERT INTO events ({', '.join(COLUMNS)}, hash) VALUES ({', '.join('?' * 15)})"  # noqa: S608 - our own names
_ARCHIVING = EVENT_TAGS[SegmentArchived]
_ARCHIVED = msgspec.json.Decoder(SegmentArchived)


def fill(
    path: Path, rows: Iterable[tuple[Any, ...]], answers: Iterable[tuple[Any, ...]], epochs: Sequence[Epoch]
) -> None:
    """Write a log into an empty file and sync it to the disk. An incomplete file is useless.

    The archives that the log has recorded are noted, too: their files have to lie beside it. Raises `LogCorrupt` and
    errors of the disk.
    """
    archivings = list[str]()

    def seen() -> Iterable[tuple[Any, ...]]:
        for row in rows:
            if row[3] == _ARCHIVING:
                archivings.append(row[13])
            yield row

    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("PRAGMA journal_mode = MEMORY")
            conn.execute("PRAGMA synchronous = OFF")  # it is synced as a whole
            migrate(conn)
            applied = conn.execute(APPLIED).fetchall()
            conn.execute("BEGIN")
            conn.executemany(_INSERT, seen())
            conn.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", ((*row, checksum(row)) for row in answers))
            conn.executemany(
                "INSERT INTO epochs VALUES (?, ?, ?, ?, ?)", ((*one, epoch_sum(one, applied)) for one in epochs)
            )
            for data in archivings:
                if not note_archive(conn, _ARCHIVED.decode(data)):
                    raise LogCorrupt(f"{path}: the log's records of its archives do not fit together")
            conn.execute("COMMIT")
        sync(path)
    except (sqlite3.Error, OSError) as error:
        raise explained(error, path, "could not be written") from error
