"""The writing side of views.db: folds committed records into rows. One per process, in the Projector's thread."""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from ...events import Recorded, TaskState
from ...events.collector import collector_waits
from ...events.existence import exists
from ...events.log.files import create_private, refuse_non_files
from ...events.log.inserting import insert_rows
from ...events.log.sqlite_connection import with_stable_plans
from ...events.recorded import timestamp
from ..errors import ViewsDamaged, ViewsFailed, ViewsGap
from ..notices import log_id
from . import schema
from .checksums import is_damage, sound, teach
from .ctrl_c import heeding_ctrl_c
from .dependants import write_dependants
from .fold import Change, Tally, fold_batch, touched
from .forgotten import write_forgotten
from .notice_table import write_notices
from .rows import (
    COLUMNS,
    INTO_TASKS,
    Row,
    Standing,
    add_texts,
    changed_of,
    remove_texts,
    state_of,
    to_insert,
    to_update,
    write_notes,
)
from .versions import Versions

_HOT = 8192
_CACHE = 16_384
"""Kilobytes. The changes of a batch should fit, or SQLite writes some pages twice."""
_CHECKPOINT = 4000
"""Pages in the write-ahead log. A large batch changes more than 1,000, SQLite's default."""
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608 - our own names


class TaskViews:
    """All tasks as rows with the columns for filters and sorts, kept numbers, and a text index; a fold of the log.

    Rows, numbers and `position` change in one transaction. States of recently changed, unfinished tasks are kept in
    memory, so that a batch seldom reads. Belongs to the thread that makes it.
    """

    def __init__(self, path: Path | str, *, bulk: bool = False, begin: bool = True) -> None:
        """Opens the file, or begins an empty one.

        Args:
            path: `:memory:` for views without a file.
            bulk: for a build in one go, without recovery; `finish` it.
            begin: whether to begin an empty one where there is none of this version. If not, that raises
                `ViewsDamaged`.
        """
        self._path: Path | str = path
        self._bulk = bulk
        self._may_begin = begin
        self._hot: dict[int, tuple[TaskState, int]] = {}
        """Task → its state and the position of the last event of its own."""
        conn = self._open()
        try:
            self._begin(conn)
        except BaseException:
            conn.close()
            raise

    def _begin(self, conn: sqlite3.Connection) -> None:
        # Losing the last commits in a power cut is harmless: they are pulled from the log again.
        conn.execute("PRAGMA synchronous = NORMAL")
        conn.execute(f"PRAGMA cache_size = {-_CACHE}")
        conn.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        if not self._bulk:  # a bulk build sorts whole indexes, which may not fit into memory
            # SQLite keeps pages to undo a statement: in files elsewhere, if not here.
            conn.execute("PRAGMA temp_store = MEMORY")
        self._conn = conn
        self._read_anew()
        self.files = self._files()  # once it was read: reading makes the other two files
        """The files as they were opened, to notice that one was deleted or replaced."""

    def _read_anew(self) -> None:
        self._hot.clear()
        self._position, self._hash = self._where()
        self.missing_keys = self._read_missing_keys()
        """Keys of users that records needed and that were not there when they were folded."""
        self._versions: Versions | None = None
        self._writes_by_others = self._count_writes_by_others()

    def _count_writes_by_others(self) -> int:
        """A number that changes when another connection has written."""
        try:
            return int(self._conn.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _files(self) -> schema.Files | None:
        return schema.files_of(self._path) if isinstance(self._path, Path) else None

    def _open(self) -> sqlite3.Connection:
        conn: sqlite3.Connection | None = None
        try:
            if isinstance(self._path, Path) and not exists(self._path):
                return self._start_over()
            conn = self._connect()
            return conn if schema.is_current(conn) else self._start_over(conn)
        except (sqlite3.Error, OSError) as error:
            if conn is not None:
                conn.close()
            raise ViewsFailed(f"{self._path} cannot be opened: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        if isinstance(self._path, Path):
            create_private(self._path)
            refuse_non_files(self._path)
        return teach(with_stable_plans(sqlite3.connect(self._path, isolation_level=None)))

    def _start_over(self, conn: sqlite3.Connection | None = None) -> sqlite3.Connection:
        if conn is not None:
            conn.close()
        if not self._may_begin:
            fault = "is not there" if conn is None else "is damaged or of another version"
            raise ViewsDamaged(f"{self._path} {fault}")
        if isinstance(self._path, Path):
            replace = schema.delete_files if self._bulk else schema.put_empty
            replace(self._path)
        conn = self._connect()
        try:
            conn.execute(f"PRAGMA journal_mode = {'OFF' if self._bulk else 'WAL'}")
            if conn.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
                schema.create_tables(conn, indexes=not self._bulk)
        except sqlite3.Error:
            conn.close()
            raise
        return conn

    def _where(self) -> tuple[int, bytes]:
        try:
            ((_one, position, digest, *_rest),) = sound(self._conn.execute("SELECT * FROM progress"))
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return int(position), bytes(digest)

    def _unreadable(self, error: sqlite3.Error) -> ViewsFailed:
        kind = ViewsDamaged if is_damage(error) else ViewsFailed
        return kind(f"{self._path} cannot be read: {error}")

    def _read_missing_keys(self) -> set[str]:
        try:
            return {str(key) for (key,) in sound(self._conn.execute("SELECT * FROM missing_keys"))}
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    @property
    def position(self) -> int:
        """The last record folded in; 0 for none."""
        return self._position

    @property
    def hash(self) -> bytes:
        """The hash of that record, which shows whether the views belong to a log."""
        return self._hash

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for queries in the same thread; other threads open the file read-only."""
        return self._conn

    @heeding_ctrl_c()
    @collector_waits()
    def apply(self, records: Sequence[Recorded], missing_keys: Collection[str] = ()) -> None:
        """Fold a batch in, in one transaction. Records that were applied before are skipped.

        `missing_keys`: keys of users that were not there when these records were read.

        Raises `ViewsGap` if records are missing in between (or another writer comes in between), and `ViewsFailed` if
        it cannot be written. Then nothing has changed, and `catch_up` repairs it. Raises `ViewsDamaged` if the file was
        deleted or is damaged: then the views have to be built anew.
        """
        self.refresh()
        fresh = [record for record in records if record.position > self._position]
        if not fresh:
            return
        for expected, record in enumerate(fresh, self._position + 1):
            if record.position != expected:
                raise ViewsGap(f"The views stand at {expected - 1}, the next record is {record.position}")
        try:
            loaded = self._load(fresh)
            before = {task_id: state for task_id, (state, _changed) in loaded.items()}
            tally, changes = Tally(), list[Change]()
            after = fold_batch(fresh, before, tally, changes)
            changed = {task_id: position for task_id, (_state, position) in loaded.items()}
            lacking = set(missing_keys).difference(self.missing_keys)
            self._commit(before, after, changed, changes, tally, fresh, lacking)
        except ViewsGap:
            self._roll_back()
            self._read_anew()
            raise
        except (sqlite3.Error, msgspec.DecodeError, UnicodeError, OverflowError) as error:
            damaged = isinstance(error, msgspec.DecodeError) or (isinstance(error, sqlite3.Error) and is_damage(error))
            raise (ViewsDamaged if damaged else ViewsFailed)(
                f"{self._path} failed at position {fresh[0].position}: {error}"
            ) from error
        finally:
            self._roll_back()
        self._position, self._hash = fresh[-1].position, fresh[-1].hash
        self.missing_keys |= lacking
        self._remember(after, changed)

    def _load(self, records: Iterable[Recorded]) -> dict[int, tuple[TaskState, int]]:
        """The states of the touched tasks before the batch, if they exist, and the positions of their last change."""
        tasks, created = touched(records)
        states = {task_id: self._hot[task_id] for task_id in tasks if task_id in self._hot}
        missing = tasks - states.keys() - created
        if missing:
            rows = self._conn.execute(_SELECT, (msgspec.json.encode(sorted(missing)).decode(),))
            states.update((row[0], (state_of(row), changed_of(row))) for row in rows)
        return states

    def _commit(
        self,
        before: dict[int, TaskState],
        after: dict[int, TaskState],
        changed: dict[int, int],
        changes: list[Change],
        tally: Tally,
        fresh: list[Recorded],
        lacking: Collection[str],
    ) -> None:
        """Write the batch, and update `changed` to it."""
        conn, last = self._conn, fresh[-1]
        versions, self._versions = self._versions, None  # a failed batch would leave unwritten rows in it
        conn.execute("BEGIN IMMEDIATE")
        moved = conn.execute(
            "UPDATE progress SET position = ?, hash = ?, recorded_at = ? WHERE position = ?",
            (last.position, last.hash, timestamp(last.recorded_at), self._position),
        )
        if moved.rowcount != 1:
            raise ViewsGap(f"Another writer has moved {self._path} on from {self._position}")
        if fresh[0].position == 1:
            conn.execute("UPDATE progress SET log = ?", (log_id(fresh[0]),))
        versions = versions or Versions(conn, self._position)
        standings = versions.write(fresh, changes, changed)
        changed.update((task_id, at[-1]) for task_id, at in standings.items())
        self._write_rows(before, after, standings)
        write_notices(conn, fresh, after)
        write_notes(conn, fresh)
        write_dependants(conn, fresh)
        write_forgotten(conn, fresh)
        conn.executemany("INSERT INTO missing_keys VALUES (?, NULL)", ((key,) for key in lacking))
        for task_id, state in after.items():
            tally.changed(before.get(task_id), state)
        tally.write(conn)
        conn.execute("COMMIT")
        self._versions = versions

    def _write_rows(
        self, before: dict[int, TaskState], after: dict[int, TaskState], standings: dict[int, Standing]
    ) -> None:
        new = [state for task_id, state in after.items() if task_id not in before]
        insert_rows(self._conn, INTO_TASKS, (to_insert(state, standings[state.id]) for state in new))
        add_texts(self._conn, new)
        updates: dict[str, list[Row]] = {}
        with_changed_error: list[tuple[TaskState, TaskState]] = []
        for task_id, old in before.items():
            state = after[task_id]
            statement, row = to_update(old, state, standings[task_id])
            updates.setdefault(statement, []).append(row)
            if (old.error or old.last_error) != (state.error or state.last_error):
                with_changed_error.append((old, state))
        for statement, rows in updates.items():
            self._conn.executemany(statement, rows)
        remove_texts(self._conn, (old for old, _state in with_changed_error))
        add_texts(self._conn, (state for _old, state in with_changed_error))

    def _roll_back(self) -> None:
        # After a commit there is nothing to roll back; after a full disk SQLite has done it by itself.
        if self._conn.in_transaction:
            self._conn.execute("ROLLBACK")

    def _remember(self, states: dict[int, TaskState], changed: dict[int, int]) -> None:
        hot = self._hot
        for task_id, state in states.items():
            hot.pop(task_id, None)
            if not state.finished:
                hot[task_id] = (state, changed[task_id])
        for task_id in list(islice(hot, max(0, len(hot) - _HOT))):
            del hot[task_id]

    @property
    def in_place(self) -> bool:
        """Whether its files are still those that were opened. Raises `OSError` if they cannot be looked for."""
        return self._files() == self.files

    def refresh(self) -> None:
        """Check that the files are still those that were opened; open them anew if all were replaced.

        Also read anew what another connection has written meanwhile.

        Raises `ViewsDamaged` if they were deleted, for an empty one would answer that there are no tasks. If only one
        of them was, the others are deleted, too: they would be read without it, or with another in its place. Raises
        `OSError` if the files cannot be looked for.
        """
        now, opened = self._files(), self.files
        if now is None or opened is None or now == opened:
            if self._count_writes_by_others() != self._writes_by_others:
                self._read_anew()
            return
        path = Path(self._path)
        left = [before for before, after in zip(opened.beside, now.beside, strict=True) if before == after]
        if opened.views == schema.identity(path) or any(one != schema.GONE for one in left):
            schema.delete_files(path)
            raise ViewsDamaged(f"A part of {path} was deleted or replaced")
        if now.views == schema.GONE:
            raise ViewsDamaged(f"{path} was deleted")
        self._conn.close()
        self._begin(self._open())

    def abandon(self) -> None:
        """Let go of damaged views. Those that have lost a file are deleted: nothing can be written to them."""
        try:
            with suppress(ViewsFailed, sqlite3.Error, OSError):
                self.refresh()
        finally:
            self.close()

    @heeding_ctrl_c()
    def finish(self, *, indexes: bool = True) -> None:
        """The end of a bulk build: add the indexes, unless only rows are wanted."""
        self._conn.execute("BEGIN IMMEDIATE")
        if indexes:
            schema.create_indexes(self._conn)
        self._conn.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._conn.close()
