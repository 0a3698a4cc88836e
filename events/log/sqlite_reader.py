"""Reads the log on disk, for proofs, seals, verification and queries."""

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import LogCorrupt
from ..existence import exists
from ..recorded import Recorded
from ..task_events import Completed
from .answers import first_of, has_sums, line_of, read_answered, unanswered
from .archive_faults import archive_faults
from .archives import Archives, KnownArchive
from .encryption import Decryption, erasable, refuse_lost_keys
from .event_log import Epoch, Erasable
from .faults import UNREADABLE, Damage, Fault
from .integrity import epoch_faults, raw_rows, schema_faults, stray_faults, structure_faults, stub_check, whole_faults
from .personal import BEGINS
from .reading import SELECT, Reading, fetch, joined, pages, refuse_gap
from .rows import from_row
from .schema import TABLES
from .sqlite_connection import connect_read_only, is_written
from .sqlite_errors import explained, file_of, illegible
from .stubs import StubCheck, to_drop
from .writers import Writer, newest_writer

_PAGE = 5000
_MADE = (
    "? = coalesce(json_extract(data, '$.output_sha256'), json_extract(data, '$.result.sha256'))"
    " AND json_extract(data, '$.result.original.kept') IS NULL"
)
"""Whether a task made an output with that hash, as `Completed.made_sha256` decides."""
_STATUS_SINCE = """
    SELECT coalesce((
        SELECT position FROM events WHERE task_id = ? AND event NOT IN ('progressed', 'checkpointed')
        ORDER BY version DESC LIMIT 1
    ), 0)
"""


def _hashed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The columns of `SqliteLogReader.hashes` from a whole row."""
    return *row[:3], row[14]


class SqliteLogReader(Reading):
    """The log, read-only. Never blocks the writer; every page is a short transaction of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decrypt = Decryption(path)
        self._retired: list[sqlite3.Connection] = []
        self._open()

    def _open(self) -> None:
        try:
            self._connected, self._frozen = connect_read_only(self._path, "SELECT 1 FROM events LIMIT 1", TABLES)
        except sqlite3.Error as error:
            raise explained(error, self._path, "cannot be read") from error
        except UnicodeDecodeError as error:
            raise illegible(self._path) from error

    @property
    def _conn(self) -> sqlite3.Connection:  # type: ignore[override]  # the base only reads it
        if self._frozen and is_written(self._path):
            self._retired.append(self._connected)
            self._open()
        return self._connected

    def to_drop(self, tasks: Iterable[int], others: Iterable[int] = ()) -> tuple[str, str]:
        """The `positions` and `stubs` of an event that drops all records of `tasks`, and the positions `others`."""
        try:
            return to_drop(self._conn, tasks, others)
        except sqlite3.Error as error:
            raise explained(error, self._path, "cannot be read") from error

    def stub_check(self) -> StubCheck:
        """Compares stubs with the records that say why they are there."""
        return stub_check(self._conn)

    def hashes(self, after: int = 0, limit: int | None = None) -> Iterator[tuple[int, int, int, bytes]]:
        """Position, task id, version and hash of each record from `after + 1` on; nothing else is read."""
        for row in pages(self._conn, after, limit, "position, task_id, version, hash", _hashed):
            if (type(row[1]), type(row[2]), type(row[3])) != (int, int, bytes):
                raise LogCorrupt(f"Position {row[0]} of the log has no task, version or hash that can be read")
            yield row

    def rows(self, after: int, limit: int) -> Iterator[tuple[Any, ...]]:
        """The raw stored values of `limit` records from `after + 1` on, each with its hash last."""
        return pages(self._conn, after, limit)

    def rows_of(self, task_id: int, until: int) -> list[tuple[Any, ...]]:
        """The raw stored values of a task's records up to a position, each with its hash last."""
        rows = fetch(self._conn, f"{SELECT} WHERE task_id = ? AND position <= ? ORDER BY version", (task_id, until))
        if not rows or rows[0][2] > 1:
            rows = joined(Archives(self._conn).of_task(task_id, until=until), rows)
        refuse_gap(task_id, 0, rows)
        return rows

    def with_result(self, digest: str) -> list[int]:
        """The tasks that completed with a file of this SHA-256, the newest first. It scans the log."""
        wanted = "SELECT position, task_id FROM events WHERE event = 'completed' AND"
        found = {
            **self._archived_with_result(digest),
            **dict(fetch(self._conn, f"{wanted} {_MADE}", (digest,))),
        }
        for position, task_id in fetch(self._conn, f"{wanted} substr(data, 1, ?) = ?", (len(BEGINS), BEGINS)):
            (record,) = self.read(position - 1, 1)
            if isinstance(record.event, Completed) and record.event.made_sha256 == digest:
                found[position] = task_id
        return [found[position] for position in sorted(found, reverse=True)]

    def _archived_with_result(self, digest: str) -> dict[int, int]:
        decrypt, found = self._decrypt.anew(), dict[int, int]()
        for row in Archives(self._conn).of_kind("completed"):
            if digest in row[13] or row[13].startswith(BEGINS):
                event = from_row(row[:14], row[14], decrypt).event
                if isinstance(event, Completed) and event.made_sha256 == digest:
                    found[row[0]] = row[1]
        return found

    def file_faults(self) -> Iterator[Fault]:
        """Faults beside the records: in the file's schema, structure and indexes, epochs, archives, stray rows."""
        yield from schema_faults(self._conn)
        yield from structure_faults(self._conn)
        yield from epoch_faults(self._conn)
        yield from archive_faults(self._conn)
        yield from stray_faults(self._conn)

    def newest_writer(self) -> Writer | None:
        """The service that started last; None if there is none, or its record cannot be read."""
        try:
            return newest_writer(self._conn)
        except (*UNREADABLE, TypeError, LogCorrupt):
            return None

    def read_task_after(self, task_id: int, version: int, limit: int) -> list[Recorded]:
        """The next records of one task after a version: a long life is read piece by piece."""
        wanted = f"{SELECT} WHERE task_id = ? AND version > ? ORDER BY version LIMIT ?"
        rows = fetch(self._conn, wanted, (task_id, version, limit))
        if not rows or rows[0][2] > version + 1:
            rows = joined(islice(Archives(self._conn).of_task(task_id, after=version), limit), rows)[:limit]
        refuse_gap(task_id, version, rows)
        return self._records(rows)

    def refuse_lost_keys(self) -> None:
        """Raise `KeysUnreadable` if something is encrypted and `keys.db` is missing or cannot be used."""
        try:
            refuse_lost_keys(self._conn, self._decrypt.keys)
        except sqlite3.Error as error:
            raise explained(error, self._path, "cannot be read") from error
        self._decrypt.keys.check()

    def last_of(self, task_id: int) -> Recorded | None:
        """The latest event of a task."""
        rows = fetch(self._conn, f"{SELECT} WHERE task_id = ? ORDER BY version DESC LIMIT 1", (task_id,))
        row = rows[0] if rows else next(Archives(self._conn).of_task_backwards(task_id), None)
        return from_row(row[:14], row[14], self._decrypt.anew()) if row else None

    def erasable(self, user_id: int) -> Erasable:
        """How much an erasure of a user would take. It scans all records."""
        try:
            return erasable(self._conn, self._decrypt.keys, user_id)
        except sqlite3.Error as error:
            raise explained(error, file_of(self._conn), "cannot be read") from error

    def faults(self) -> Iterator[Fault]:
        """All faults of the file and its rows; `verify` also checks the rules and the views."""
        return whole_faults(self._conn)

    def raw_rows(self) -> Iterator[tuple[Any, ...] | Damage]:
        """The raw stored values of each record, undecoded, its hash last, for a verifier."""
        return raw_rows(self._conn)

    def segments(self) -> list[KnownArchive]:
        """The archives that hold the beginning of the log."""
        return Archives(self._conn).segments()

    def has_sums(self) -> bool:
        """Whether answers have sums, which older versions did not write."""
        return has_sums(self._conn)

    def unanswered(self) -> Iterator[tuple[int, str]]:
        """The last position and the id of each command that led to records and has no answer."""
        return unanswered(self._conn)

    def answered(self, *, sums: bool = True) -> Iterator[tuple[Any, ...]]:
        """Each answer with the record that it points at, undecoded; see `read_answered`. Null where there is none."""
        return read_answered(self._conn, _PAGE, sums=sums)

    def epochs(self) -> list[Epoch]:
        """The services that have had the log."""
        rows = fetch(self._conn, "SELECT epoch, pid, host, started_at FROM epochs ORDER BY epoch")
        return [Epoch(*row) for row in rows]

    def first_of(self, command_id: str, position: int) -> tuple[Any, ...] | None:
        """Task id, event and data of a command's first record; its last one is at `position`."""
        return first_of(self._conn, command_id, position)

    def line_of(self, task_id: int) -> list[int]:
        """The task, its parent, that one's parent, and so on."""
        return line_of(self._conn, task_id)

    def status_since(self, task_id: int) -> int:
        """Position of the record that gave a task its present status; 0: there is no such task."""
        since = int(fetch(self._conn, _STATUS_SINCE, (task_id,))[0][0])
        if since:
            return since
        archived = Archives(self._conn).of_task_backwards(task_id)
        return next((row[0] for row in archived if row[3] not in ("progressed", "checkpointed")), 0)

    def size(self) -> int:
        """Bytes of the file and its write-ahead log."""
        return sum(path.stat().st_size for path in (self._path, Path(f"{self._path}-wal")) if exists(path))

    def close(self) -> None:
        """Let go of the file."""
        self._decrypt.close()
        for conn in (*self._retired, self._connected):
            conn.close()
