"""The log on disk: one SQLite file, one writing connection, every commit fsynced before it is acknowledged."""

import os
import socket
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from subprocess import SubprocessError
from typing import Any, NoReturn

from msgspec.structs import astuple

from ..counted import counted
from ..errors import (
    ConcurrencyError,
    Fenced,
    LogCorrupt,
    LogGone,
    LogLocked,
    LogTooNew,
)
from ..existence import exists
from ..ranges import spans_of
from ..recorded import STUB, Fact, Recorded, timestamp
from ..system_events import SegmentArchived
from .answers import answer_faults, is_as_written
from .archive_faults import archive_faults
from .archives import PUT_BACK, Archives, delete_archived, note_archive, note_contents
from .chain import checksum
from .encryption import Decryption, Encryption, key_of, opened_digest, refuse_lost_keys
from .event_log import Answer, Head
from .faults import Fault
from .files import HeadMark, LogFiles, create_private, refuse_non_files
from .inserting import insert_rows
from .integrity import (
    AT_ONCE,
    can_be_rebuilt,
    chain_faults,
    damaged_indexes,
    epoch_faults,
    faults_in_front,
    newer_faults,
    raw_rows,
    schema_faults,
    structure_faults,
    stub_check,
)
from .linking import linked
from .reading import Reading
from .rows import COLUMNS
from .schema import APPLIED, TABLES, epoch_sum, migrate
from .sqlite_connection import connect_read_only, with_stable_plans
from .sqlite_errors import OPENING, explained, header_fault, illegible
from .sqlite_reader import SqliteLogReader
from .stubs import DROPS, put_stubs, read_drops

_INTO_EVENTS = f"INSERT INTO events ({', '.join(COLUMNS)}, hash)"
_INTO_ANSWERS = "INSERT INTO answers (command_id, digest, task_id, position, sum)"
_FULL = 2  # PRAGMA synchronous: an acknowledgement means fsynced
# More pages than SQLite's default: fewer checkpoints. `_grow_write_ahead_log` makes room for them at the start.
_CHECKPOINT_PAGES = 2000
_PAGE_SIZE = 4096
_WORTH_GIVING = 16 << 20
"""Bytes of free pages from which on copying the rest is worth it."""
_LAST_EPOCH = 2**63 - 1
_LOCK_PATIENCE = 1.0
"""Seconds that a commit waits for a foreign lock. Meanwhile its thread cannot answer questions."""
_LOCK_IMPATIENCE = 0.05
"""The same while the lock is known to be held."""
_GAPS_WITHIN = 0.25
"""Seconds of one maintenance to clear the free space in pages; the thread waits for them, …"""
_GAPS_AT_CLOSE = 1.5
"""… and the same at the end, when nothing else has to be waited for."""


class SqliteEventLog(Reading):
    """The log in `path`. Opening it to write takes the epoch: an older service's next append is refused.

    Belongs to the thread that uses it first (SQLite checks); `reader()` gives other threads their own.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: datetime,
        encrypted: bool = False,
        master: Path | None = None,
        accept_lost_keys: bool = False,
    ) -> None:
        """As `open_log`."""
        self._path = path
        self._decrypt = Decryption(path)
        self._head: Head | None = None
        self._lost: LogGone | None = None
        self._newest_archived: int | None = None
        """See `Archives.newest_task`; None once it may have changed."""
        self._folded_at = 0
        self._gaps_from = 0
        """The page from which on there may be copies of dropped records; 0: there are none."""
        self._guard: sqlite3.Connection | None = None
        self._conn = _connect(path)
        self._archives = Archives(self._conn)
        self.rebuilt: tuple[str, ...] = ()
        """The indexes that were damaged and have been rebuilt."""
        try:
            self._prepare()
            self._check()
            self._epoch = self._take_epoch(now)
            self._give_room_back()
            # SQLite keeps pages to undo a statement, also with forgotten data: in files elsewhere, if not here.
            self._conn.execute("PRAGMA temp_store = MEMORY")
            self._unfolded = next(read_drops(self._conn), None) is not None
            if self._unfolded:
                self._gaps_from = 1
                self._cut_write_ahead_log()
            self._archives.remove_strays()
            self._note_archived()
            self._encryption = self._prepare_keys(encrypted=encrypted, master=master, accept_lost=accept_lost_keys)
            self._grow_write_ahead_log()
            self._wait_for_locks(_LOCK_PATIENCE)
            # When the last connection closes, SQLite deletes the write-ahead log by its name, even if another file has
            # that name by then. This connection stays open to prevent that.
            self._guard, _ = connect_read_only(path, "SELECT 1 FROM events LIMIT 1", TABLES)
            self._files = LogFiles(path)
            self._version = self._data_version()
            self._mark = HeadMark(path)
            self._mark.write(self.head())
        except (sqlite3.Error, OSError) as error:
            self._let_go()
            raise explained(error, path, OPENING) from error
        except UnicodeDecodeError as error:
            self._let_go()
            raise illegible(path) from error
        except LogCorrupt as error:
            self._let_go()
            wrong = header_fault(path)
            raise (LogCorrupt(f"{path}: {wrong}") if wrong else error) from error.__cause__
        except BaseException:  # Ctrl-C too: an open connection would keep the file locked
            self._let_go()
            raise

    def _prepare_keys(self, *, encrypted: bool, master: Path | None, accept_lost: bool) -> Encryption | None:
        """The encryption of new records; None for a log in which nothing is or was encrypted."""
        keys = self._decrypt.keys
        if encrypted and not accept_lost:
            refuse_lost_keys(self._conn, keys)
        if not encrypted and not keys.exist():
            return None
        keys.make(master)
        return Encryption(lambda task_id: key_of(self._conn, task_id), keys, new=encrypted)

    def _give_room_back(self) -> None:
        """Compact the file if much, and at least half of it, is free: archives and stubs leave free pages.

        So a start never copies more than it frees.
        """
        pages, free, size = (
            self._conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if free * size < _WORTH_GIVING or 2 * free < pages:
            return
        with suppress(sqlite3.OperationalError):  # no room for the copy, or the file is locked: another time
            self._conn.execute("VACUUM")
            self._cut_write_ahead_log()

    def _note_archived(self) -> None:
        if self._archives.without_index():
            with self._conn:
                self._conn.execute("BEGIN IMMEDIATE")
                note_contents(self._conn)

    def _let_go(self) -> None:
        self._decrypt.close()
        if self._guard is not None:
            self._guard.close()
        self._conn.close()

    def _prepare(self) -> None:
        self._conn.execute("PRAGMA journal_mode = WAL")
        self._conn.execute("PRAGMA synchronous = FULL")
        self._conn.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._conn.execute("PRAGMA recursive_triggers = ON")
        self._conn.execute("PRAGMA secure_delete = ON")  # what was dropped is overwritten
        if self._conn.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():  # otherwise the schema is made now
            self._refuse(schema_faults(self._conn))
            self._refuse(newer_faults(self._conn))  # before anything is changed
        migrate(self._conn)
        mode = self._conn.execute("PRAGMA journal_mode").fetchone()[0]
        level = self._conn.execute("PRAGMA synchronous").fetchone()[0]
        if (mode, level) != ("wal", _FULL):
            raise LogCorrupt(
                f"{self._path} runs in journal mode {mode}, synchronous {level}; it must be wal and {_FULL}",
                remedy="Put the data folder on a local file system that SQLite's WAL mode supports.",
            )

    def _check(self) -> None:
        """Refuse a damaged log. Rebuild a damaged index from its table, once that is known to be whole.

        The chain and the answers of a long log are not checked here: that takes longer than a start may.
        """
        found = list(structure_faults(self._conn))
        if found and can_be_rebuilt(found):
            self._refuse(chain_faults(raw_rows(self._conn), stub_check(self._conn)))
            try:
                self._conn.execute("REINDEX")
            except sqlite3.IntegrityError as error:
                raise LogCorrupt(f"{self._path}: {found[0].message}, and it cannot be rebuilt: {error}") from error
            self.rebuilt = damaged_indexes(found)
            found = list(structure_faults(self._conn))
        self._refuse(iter(found))
        self._refuse(epoch_faults(self._conn))
        self._refuse(faults_in_front(self._conn))
        if self.head().position <= AT_ONCE:
            self._refuse(archive_faults(self._conn))  # first: it names the file, and says how to put it back
            self._refuse(chain_faults(raw_rows(self._conn), stub_check(self._conn)))
            self._refuse(answer_faults(self._conn))

    def _refuse(self, faults: Iterator[Fault]) -> None:
        fault = next(faults, None)
        if fault is not None:
            where = f"position {fault.position}: " if fault.position else ""
            kind = LogTooNew if fault.code == "newer" else LogCorrupt
            remedy = PUT_BACK if fault.code == "archive" else ""
            raise kind(f"{self._path}: {where}{fault.message}", remedy=remedy)

    def _grow_write_ahead_log(self) -> None:
        """Give the write-ahead log its full size at once: a large insert, rolled back, leaves its pages as free space.

        An fsync that also records a new file size takes much longer, and a commit is mostly fsync.
        """
        full = _CHECKPOINT_PAGES * _PAGE_SIZE
        wal = Path(f"{self._path}-wal")
        if exists(wal) and wal.stat().st_size > full // 2:
            return  # left by a service that was killed
        try:
            self._conn.execute("BEGIN IMMEDIATE")
            self._conn.execute("CREATE TABLE room (filler BLOB)")
            self._conn.execute("INSERT INTO room VALUES (zeroblob(?))", (full,))
        except sqlite3.OperationalError:
            pass  # no room on the disk: it grows as it is written, or the first append reports it
        finally:
            self._roll_back()

    def _cut_write_ahead_log(self) -> bool:
        """Fold it and empty its file, so that no dropped record is in it. Returns whether that succeeded."""
        busy, _pages, _folded = self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _wait_for_locks(self, seconds: float) -> None:
        self._lock_patience = seconds
        self._conn.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def _take_epoch(self, now: datetime) -> int:
        with self._conn:
            self._conn.execute("BEGIN IMMEDIATE")  # a transaction that begins by reading would be refused at once
            row = self._conn.execute("SELECT coalesce(max(epoch), 0) + 1 FROM epochs").fetchone()
            epoch = int(row[0])
            if epoch > _LAST_EPOCH:
                raise LogCorrupt(
                    f"{self._path} says that it has had {counted(epoch - 1, 'service')}: its epochs were altered"
                )
            taken = (epoch, os.getpid(), socket.gethostname(), timestamp(now))
            total = epoch_sum(taken, self._conn.execute(APPLIED).fetchall())
            self._conn.execute("INSERT INTO epochs VALUES (?, ?, ?, ?, ?)", (*taken, total))
        return epoch

    def _data_version(self) -> int:
        return int(self._conn.execute("PRAGMA data_version").fetchone()[0])

    @property
    def epoch(self) -> int:
        """The number of this ownership of the log; grows with every service that opens it."""
        return self._epoch

    def last_owned(self) -> float:
        """0: the lock of the data folder is the kernel's."""
        return 0.0

    def head(self) -> Head:
        """The end of the log. Read anew after a failed commit, which may have happened all the same."""
        if self._head is None:
            self._head = super().head()
        return self._head

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        """All or nothing, fsynced on return; see `EventLog.append`."""
        head = self.head()
        if head.position != expected:
            raise ConcurrencyError("The log has grown", current=head.position, expected=expected)
        encryption = self._encryption
        rows, records = linked(facts, head, encryption)
        moving = [record for record in records if isinstance(record.event, DROPS | SegmentArchived)]
        self._commit(rows, answers if encryption is None else encryption.finish(answers), moving)
        if records:
            self._head = Head(records[-1].position, records[-1].hash)
            self._mark.write(self._head)
        return records

    def _commit(self, rows: list[tuple[Any, ...]], answers: Sequence[Answer], moving: Sequence[Recorded] = ()) -> None:
        conn = self._conn
        try:
            overwritten = self._look_at_files()
            conn.execute("BEGIN IMMEDIATE")
            if conn.execute("SELECT max(epoch) FROM epochs").fetchone()[0] != self._epoch:
                raise Fenced(f"A newer service has taken {self._path}")
            if overwritten:
                self._bear_with(overwritten)
            self._refuse_taken(rows)
            changed = set[int]()
            for record in moving:  # the schema allows stubs only while the record that drops is the last one
                ahead = record.position - rows[0][0] + 1
                insert_rows(conn, _INTO_EVENTS, rows[:ahead])
                rows = rows[ahead:]
                self._move(record, changed)
            if changed:
                raise LogCorrupt(
                    f"{self._path}: records were dropped from the archive at {min(changed)}, but no event replaces it"
                )
            insert_rows(conn, _INTO_EVENTS, rows)
            insert_rows(conn, _INTO_ANSWERS, [_summed(astuple(answer)) for answer in answers])
            conn.execute("COMMIT")
            self._look_at_files(written=True)  # once more: a write to a deleted file is not acknowledged
        except BaseException as error:
            self._head = self._newest_archived = None
            self._roll_back()
            ours = _as_ours(error, self._path)
            if self._lost is None:
                self._files.note()
            if isinstance(ours, LogLocked):
                self._wait_for_locks(_LOCK_IMPATIENCE)
            raise ours from error
        if any(isinstance(record.event, DROPS) for record in moving):
            self._unfolded, self._gaps_from = True, 1
        if moving:
            self._newest_archived = None
            self._archives.remove_replaced(moving)
        if self._lock_patience != _LOCK_PATIENCE:
            self._wait_for_locks(_LOCK_PATIENCE)

    def _refuse_taken(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Refuse what the unique indexes would refuse if a task's archived rows were still in the table.

        A version is taken only once, and a life ends only once. Raises `ConcurrencyError`.
        """
        if self._newest_archived is None:
            self._newest_archived = self._archives.newest_task()
        newest = self._newest_archived
        known: dict[int, int] = {}
        for row in rows:
            task_id, version = row[1], row[2]
            if task_id > newest:
                continue
            if task_id not in known:
                known[task_id] = self.version_at(task_id)
            if version != known[task_id] + 1:
                raise ConcurrencyError(
                    f"Task {task_id} is at version {known[task_id]}", current=known[task_id], expected=version - 1
                )
            known[task_id] = version
            if row[12] and task_id and self._has_ended(task_id, row[11]):
                raise ConcurrencyError(f"Life {row[11]} of task {task_id} has ended before")

    def _has_ended(self, task_id: int, life: int) -> bool:
        return any(row[12] and row[11] == life for row in self._archives.of_task(task_id))

    def _move(self, record: Recorded, changed: set[int]) -> None:
        """Drop records, or note where they are archived. `changed`: the archives that have to be replaced."""
        event = record.event
        if isinstance(event, SegmentArchived):
            if not note_archive(self._conn, event):
                raise LogCorrupt(
                    f"{self._path}: the archive recorded at {record.position} does not follow the archives before it"
                )
            changed.discard(event.first)
            return
        assert isinstance(event, DROPS)
        if not put_stubs(self._conn, event):
            raise LogCorrupt(f"{self._path}: the records to be dropped at {record.position} do not match its digest")
        changed.update(segment.first for segment in self._archives.with_any(spans_of(event.positions)))

    def _look_at_files(self, *, written: bool = False) -> str:
        """Which file another program has written to, in words, or "". Raises `LogGone` if a file is no longer ours."""
        if self._lost is not None:
            raise self._lost
        if fault := self._files.fault(written=written):
            if written:
                self._files.note()
            self._lose(fault)
        return self._files.overwritten()

    def _bear_with(self, overwritten: str) -> None:
        """Accept a foreign write through SQLite, which the positions will show. Raises `LogGone` for other writes."""
        version = self._data_version()
        if version == self._version:
            self._roll_back()
            self._lose(overwritten)
        self._version = version

    def _lose(self, fault: str) -> NoReturn:
        """Give up files that are not ours any more: save what can be saved, never write again, and raise `LogGone`."""
        self._lost = LogGone(f"{fault}. {self._files.rescue(self._conn)}".rstrip("."))
        raise self._lost

    def maintain(self) -> None:
        """Between appends: check that the files are ours, and fold the write-ahead log into the log's file.

        Otherwise acknowledged records would be only in the write-ahead log, which looks like a file to delete. It does
        not wait for readers. Raises `LogGone`.
        """
        if overwritten := self._look_at_files():
            self._bear_with(overwritten)
        if self._unfolded:
            self._forget_write_ahead_log()
        if self.head().position == self._folded_at:
            return
        try:
            busy, pages, folded = self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise _as_ours(error, self._path) from error
        finally:
            self._files.note()
        if not busy and pages == folded:
            self._folded_at = self.head().position

    def _forget_write_ahead_log(self) -> None:
        """Remove dropped records from the write-ahead log, too: folding removes them only from the log's file."""
        self._wait_for_locks(_LOCK_IMPATIENCE)
        try:
            self._clear_up(_GAPS_WITHIN)
            if not self._unfolded:
                self._grow_write_ahead_log()
        except sqlite3.Error as error:
            raise _as_ours(error, self._path) from error
        finally:
            self._files.note()
            self._wait_for_locks(_LOCK_PATIENCE)

    def _clear_up(self, seconds: float) -> None:
        """Remove what is left of dropped records, as far as possible now; the next maintenance goes on."""
        from .gaps import clear_gaps_of  # noqa: PLC0415 - few logs ever drop anything

        if not self._cut_write_ahead_log():  # a reader is active
            return
        self._files.note(cut=True)
        self._unfolded = False
        with suppress(OSError, SubprocessError, ValueError):  # the next drop, the end or the next start tries again
            self._gaps_from = clear_gaps_of(self._path, self._gaps_from, seconds)
            self._unfolded = self._gaps_from > 0
        self._conn.execute("PRAGMA shrink_memory")  # it would write its cached pages again
        self._files.note()

    def _roll_back(self) -> None:
        # A full disk makes SQLite roll back by itself, and statements after that commit one by one. So ask first.
        if self._conn.in_transaction:
            try:
                self._conn.execute("ROLLBACK")
            except sqlite3.Error:
                self._conn.close()

    def delete_archived(self, limit: int) -> int:
        """Delete at most `limit` rows of archived records; returns how many are left."""
        try:
            overwritten = self._look_at_files()
            self._conn.execute("BEGIN IMMEDIATE")
            if overwritten:
                self._bear_with(overwritten)
            left = delete_archived(self._conn, limit)
            self._conn.execute("COMMIT")
            self._look_at_files(written=True)
        except BaseException as error:  # whatever it is, no transaction may stay open
            self._roll_back()
            self._files.note()
            raise _as_ours(error, self._path) from error
        return left

    def answer(self, command_id: str) -> Answer | None:
        """The answer to a command id, if the command was accepted before."""
        row = self._conn.execute(
            "SELECT command_id, digest, task_id, position, sum FROM answers WHERE command_id = ?", (command_id,)
        ).fetchone()
        if row is None:
            return None
        if not is_as_written(row[:4], row[4]):
            raise LogCorrupt(f"Position {row[3]}: the answer to {command_id} is not as it was written")
        return Answer(command_id, opened_digest(row[1], command_id, self._decrypt.keys), row[2], row[3])

    def is_newest(self, task_id: int, version: int) -> bool:
        """Whether the last record of a task has this version; see `EventLog.is_newest`."""
        last = self._conn.execute(
            "SELECT version, event FROM events WHERE task_id = ? ORDER BY version DESC LIMIT 1", (task_id,)
        ).fetchone()
        return last is None or (last[0] == version and last[1] != STUB)

    def destroy(self, keys: Collection[str]) -> None:
        """Destroy these keys of users for ever."""
        self._decrypt.keys.destroy(keys)

    def reader(self) -> SqliteLogReader:
        """A read-only view of the same file for another thread."""
        return SqliteLogReader(self._path)

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it. Files that are not ours any more are not touched."""
        self._mark.close()
        if self._is_lost():
            self._conn.close()
        elif self._gaps_from:
            with suppress(sqlite3.Error):
                self._wait_for_locks(_LOCK_IMPATIENCE)
                self._clear_up(_GAPS_AT_CLOSE)
        self._let_go()

    def _is_lost(self) -> bool:
        try:
            return bool(self._lost or self._files.fault())
        except OSError:
            return True


def _summed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row, checksum(row))


def _connect(path: Path) -> sqlite3.Connection:
    try:
        create_private(path)
        refuse_non_files(path)
        return with_stable_plans(sqlite3.connect(path, isolation_level=None, cached_statements=64))
    except (sqlite3.Error, OSError) as error:
        raise explained(error, path, OPENING) from error


def _as_ours(error: BaseException, path: Path) -> BaseException:
    match error:
        case sqlite3.IntegrityError():
            return ConcurrencyError(f"Another program wrote to {path}: {error}")
        case sqlite3.ProgrammingError() | sqlite3.DataError() | sqlite3.InterfaceError():
            return error  # our own fault, which a retry would not cure
        case sqlite3.Error() | OSError():
            return explained(error, path, "could not be written")
        case _:
            return error
