"""The tables of views.db. They are a cache of the log: a file with other tables is deleted, never migrated."""

import os
import sqlite3
from binascii import crc32
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import fields

from ...events import Created, TaskState
from ...events.log.files import create_private
from ...events.log.schema import refuse_masked
from .checksums import create_triggers, teach
from .contract import VIEWS

FOLD = 6
"""Raise it when the fold of old events changes: then views are built again, and older snapshots are not used."""

TABLES = """
CREATE TABLE progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,
    hash BLOB NOT NULL,
    recorded_at TEXT NOT NULL,
    log TEXT NOT NULL DEFAULT '',
    checksum INTEGER
) STRICT;
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    status TEXT NOT NULL,
    type TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    document_id INTEGER NOT NULL,
    parent_task_id INTEGER NOT NULL,
    label TEXT NOT NULL,
    batch TEXT NOT NULL,
    priority INTEGER NOT NULL,
    queue_key REAL,
    updated_at REAL NOT NULL,
    changed INTEGER NOT NULL,
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    spec_sum INTEGER NOT NULL,
    state_sum INTEGER NOT NULL
) STRICT;
CREATE TABLE counts (
    type TEXT NOT NULL, status TEXT NOT NULL, number INTEGER NOT NULL, checksum INTEGER, PRIMARY KEY (type, status)
) STRICT, WITHOUT ROWID;
CREATE TABLE totals (
    type TEXT PRIMARY KEY, attempts INTEGER NOT NULL, retries INTEGER NOT NULL, checksum INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE durations (
    type TEXT NOT NULL, bucket INTEGER NOT NULL, number INTEGER NOT NULL, checksum INTEGER, PRIMARY KEY (type, bucket)
) STRICT, WITHOUT ROWID;
CREATE TABLE ends (
    minute INTEGER NOT NULL, status TEXT NOT NULL, number INTEGER NOT NULL, checksum INTEGER,
    PRIMARY KEY (minute, status)
) STRICT, WITHOUT ROWID;
CREATE TABLE minutes (
    minute INTEGER PRIMARY KEY,
    created INTEGER NOT NULL,
    started INTEGER NOT NULL,
    longest_wait INTEGER NOT NULL,
    waits TEXT NOT NULL,
    checksum INTEGER
) STRICT;
CREATE TABLE batches (
    batch TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    ended_at TEXT,
    numbers TEXT NOT NULL,
    checksum INTEGER,
    PRIMARY KEY (batch, user_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE notices (
    task_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    channel TEXT NOT NULL,
    notice_id TEXT NOT NULL,
    target TEXT NOT NULL,
    event TEXT NOT NULL,
    position INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    state TEXT NOT NULL,
    tries INTEGER NOT NULL,
    detail TEXT NOT NULL,
    tried_at TEXT,
    next_at TEXT,
    checksum INTEGER,
    PRIMARY KEY (task_id, version, channel, target)
) STRICT, WITHOUT ROWID;
CREATE TABLE notes (
    task_id INTEGER NOT NULL, position INTEGER NOT NULL, checksum INTEGER, PRIMARY KEY (task_id, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE dependants (
    depends_on INTEGER NOT NULL, task_id INTEGER NOT NULL, checksum INTEGER, PRIMARY KEY (depends_on, task_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE disabled (
    target TEXT PRIMARY KEY, position INTEGER NOT NULL, since TEXT NOT NULL, detail TEXT NOT NULL, checksum INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE forgotten (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, position INTEGER NOT NULL, rule TEXT NOT NULL, checksum INTEGER
) STRICT;
CREATE TABLE missing_keys (key TEXT PRIMARY KEY, checksum INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE versions (
    since INTEGER PRIMARY KEY,
    id INTEGER NOT NULL,
    status TEXT NOT NULL,
    kind INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    queue_key REAL,
    changed INTEGER NOT NULL,
    updated_at REAL NOT NULL,
    version INTEGER NOT NULL,
    text INTEGER NOT NULL,
    state TEXT,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE zones (
    list TEXT NOT NULL, block INTEGER NOT NULL, since INTEGER NOT NULL, number INTEGER NOT NULL, until INTEGER,
    checksum INTEGER NOT NULL, PRIMARY KEY (list, block, since)
) STRICT, WITHOUT ROWID;
CREATE TABLE tallies (
    block INTEGER PRIMARY KEY, base TEXT NOT NULL, moves TEXT NOT NULL, checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE shares (
    tasks_of TEXT NOT NULL, since INTEGER NOT NULL, base BLOB NOT NULL, moves BLOB NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (tasks_of, since)
) STRICT, WITHOUT ROWID;
CREATE TABLE texts (
    id INTEGER NOT NULL, number INTEGER NOT NULL, since INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (id, number)
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE search USING fts5 (type, input_file, output_file, error, content='', columnsize=0);
CREATE VIRTUAL TABLE past_search USING fts5 (type, input_file, output_file, error, content='', columnsize=0);
CREATE VIRTUAL TABLE text_moves USING fts5 (type, input_file, output_file, error, content='', columnsize=0);
"""
TEXT_INDEXES = ("search", "past_search", "text_moves")
_OF_A_TEXT = ("data", "idx", "content", "docsize", "config")
NAMES = (
    *(statement.split()[0] for statement in TABLES.split(" TABLE ")[1:]),
    *(f"{index}_{part}" for index in TEXT_INDEXES for part in _OF_A_TEXT),
)
"""The names of the tables, and of those that FTS5 reads with statements of its own."""
PIECES = tuple(f"INSERT INTO {name} ({name}, rank) VALUES ('automerge', 8)" for name in TEXT_INDEXES)  # noqa: S608 - our own names
"""A text index is written in pieces, and this many of one size are merged: twice FTS5's default. That hardly slows a
search, and makes following the log cheaper."""


# In `zones`, the first column after the key must not be NULL. Otherwise SQLite does not see that blocks differ, and
# sorts all results of a walk before it returns the first.
# Ids grow in order of creation, and every index ends with the id, so one walk gives both a filter by its column and
# the order of creation.
OUTPUT = "coalesce(json_extract(spec, '$.output_real'), json_extract(spec, '$.output_file'))"
"""The path that identifies the output of a task's row, like `output_of`."""
INPUT = "json_extract(spec, '$.input_file')"
OVER = ("cancelled", "failed")
"""Statuses of tasks that are over and few."""
SELDOM = ("cancelled", "failed", "retrying")
"""Statuses that few versions have."""
BY_VALUE = {
    "parent_task_id": "tasks_by_parent",
    "document_id": "tasks_by_document",
    "user_id": "tasks_by_user",
    "label": "tasks_by_label",
    "batch": "tasks_by_batch",
}
"""Column → the index of tasks by its values, other than status and type: each is that of few tasks."""
_WITH_TEXT = "id, since, text, status, kind, user_id, lane, queue_key, updated_at"
"""All that a list's filters and orders need of a version: the few tasks with an error are found by it alone."""
BY_SORT = {"priority": "tasks_by_priority", "updated_at": "tasks_by_update", "queue_key": "tasks_by_queue_key"}
"""Column → the index of all tasks in its order."""


def is_seldom(column: str) -> str:
    """The condition that a column has one of `SELDOM`. With IN, SQLite would make a table for each written row."""
    return "({})".format(" OR ".join(f"{column} = '{status}'" for status in SELDOM))


def has_status(column: str, parameter: str) -> str:
    """The condition that a column has the status in a parameter.

    Without the plus SQLite compares the parameter's value with the conditions of partial indexes, and therefore
    compiles the statement anew at each use.
    """
    return f"{column} = +{parameter}"


INDEXES = f"""
CREATE INDEX tasks_by_status ON tasks (status);
CREATE INDEX tasks_by_type ON tasks (type);
CREATE INDEX tasks_by_status_and_type ON tasks (status, type);
CREATE INDEX tasks_by_user ON tasks (user_id);
CREATE INDEX tasks_by_document ON tasks (document_id);
CREATE INDEX tasks_by_parent ON tasks (parent_task_id);
CREATE INDEX tasks_by_label ON tasks (label);
CREATE INDEX tasks_by_batch ON tasks (batch);
CREATE INDEX tasks_by_output ON tasks ({OUTPUT}) WHERE batch <> '';
CREATE INDEX tasks_by_batch_and_input ON tasks (batch, {INPUT}) WHERE batch <> '';
CREATE INDEX tasks_by_priority ON tasks (priority, id, user_id);
CREATE INDEX tasks_by_queue_key ON tasks (queue_key, id, user_id);
CREATE INDEX tasks_by_update ON tasks (updated_at, id, user_id);
CREATE INDEX tasks_over ON tasks (status, type, updated_at, priority, {", ".join(BY_VALUE)}) WHERE status IN {OVER};
CREATE INDEX versions_by_task ON versions (id, since, status, kind, user_id, changed);
CREATE INDEX versions_with_text ON versions ({_WITH_TEXT}) WHERE text > 0;
CREATE INDEX versions_by_status ON versions (status, id, kind, user_id) WHERE {is_seldom("status")};
CREATE INDEX versions_by_lane ON versions (status, lane, id, kind, user_id) WHERE status <> 'running';
CREATE INDEX versions_by_change ON versions (status, since, id, kind, user_id) WHERE {is_seldom("status")};
CREATE INDEX versions_pending ON versions (kind, since, id, user_id) WHERE status = 'pending';
CREATE INDEX batches_by_newest ON batches (newest);
CREATE INDEX batches_by_user ON batches (user_id, newest);
CREATE INDEX notices_pending ON notices (target) WHERE state = 'pending';
"""


def _stamp() -> int:
    shape = [
        TABLES,
        INDEXES,
        *VIEWS,
        *PIECES,
        str(FOLD),
        *(field.name for cls in (TaskState, Created) for field in fields(cls)),
    ]
    return crc32("\n".join(shape).encode()) & 0x7FFFFFFF


STAMP = _stamp()
"""The file's `user_version`. It changes with the tables, the fields of a task, or `FOLD`."""


def is_current(conn: sqlite3.Connection) -> bool:
    """Whether the file was built by this code and can be read. Raises `sqlite3.Error` if that is unclear now."""
    try:
        refuse_masked(conn, NAMES)
        stamp = conn.execute("PRAGMA user_version").fetchone()[0]
        return bool(stamp == STAMP and conn.execute("SELECT count(*) FROM progress").fetchone()[0] == 1)
    except UnicodeError:  # not even the error's message could be decoded
        return False
    except sqlite3.Error as error:
        if is_useless(error):
            return False
        raise


def is_useless(error: sqlite3.Error) -> bool:
    """Whether the fault is in the file itself and not temporary: such a file may be deleted."""
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")  # invalid UTF-8 has no name
    return name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR"))


def create_tables(conn: sqlite3.Connection, *, indexes: bool = True) -> None:
    """Make the tables in an empty database. A bulk build adds the indexes at its end, which is twice as quick."""
    conn.execute("BEGIN IMMEDIATE")
    for statement in TABLES.split(";\n")[:-1]:
        conn.execute(statement)
    create_triggers(teach(conn))
    for statement in (*VIEWS, *PIECES):
        conn.execute(statement)
    if indexes:
        create_indexes(conn)
    conn.execute("INSERT INTO progress VALUES (1, 0, x'', '', '', NULL)")
    conn.execute(f"PRAGMA user_version = {STAMP}")
    conn.execute("COMMIT")


def create_indexes(conn: sqlite3.Connection) -> None:
    """Make the indexes that the filters and sorts of `queries` need."""
    for statement in INDEXES.strip().split("\n"):
        conn.execute(statement)


def put_empty(path: Path) -> None:
    """Replace views by empty ones. A kill never leaves a file without tables, which would look damaged."""
    beside = path.with_name(path.name + ".empty")
    for old in (path, beside):
        delete_files(old)
    create_private(beside)
    with closing(teach(sqlite3.connect(beside, isolation_level=None))) as conn:
        conn.execute("PRAGMA journal_mode = OFF")
        create_tables(conn)
    beside.replace(path)


def delete_files(path: Path) -> None:
    """Delete a views database. The write-ahead log goes first: left alone it could be applied to another database."""
    for name in (f"{path}-wal", f"{path}-shm", str(path)):
        Path(name).unlink(missing_ok=True)


GONE = (0, 0)
"""The identity of a file that is not there, and of views that are empty."""


def identity(path: Path | str) -> tuple[int, int]:
    """The identity of a file, to notice a replacement. By stat, as opening and closing it would drop SQLite's locks."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked before every answer
    except OSError:
        return GONE
    return status.st_dev, status.st_ino


def is_gone(path: Path) -> bool:
    """Whether views were deleted, or emptied in place. Raises `OSError` if that cannot be seen."""
    try:
        return path.stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        return True


class Files(NamedTuple):
    """The identities of a views database's three files."""

    views: tuple[int, int]
    beside: tuple[tuple[int, int], tuple[int, int]]
    """Of its write-ahead log and the index of that."""


def files_of(path: Path) -> Files:
    """The files of a views database as they are now. Raises `OSError`."""
    return Files(GONE if is_gone(path) else identity(path), (identity(f"{path}-wal"), identity(f"{path}-shm")))
