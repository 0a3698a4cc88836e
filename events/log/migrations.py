"""The migrations of log.db. A migration's function name is its identity: never rename one.

This is imported only to make or change a schema: importing sqlite-utils takes longer than opening a log.
"""

import sqlite3
from contextlib import closing

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from .chain import checksum
from .schema import ADJUSTED_TASK, APPLIED, IS_ADJUSTMENT, NAMES, SET, Objects, epoch_sum, objects

migrations = Migrations(SET)
# As `sqlite_utils` makes them today. A later version of it must not make them look different.
_LIST = """CREATE TABLE IF NOT EXISTS "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
)"""
_LIST_INDEX = """CREATE UNIQUE INDEX IF NOT EXISTS "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")"""


@migrations()
def create_log(db: Database) -> None:
    """The events, the answers to command ids, and the epochs of services.

    STRICT, so that SQLite checks types. The unique indexes are constraints: each version exists once, a life ends once.
    """
    for statement in (
        """
        CREATE TABLE events (
            position INTEGER PRIMARY KEY,
            task_id INTEGER NOT NULL,
            version INTEGER NOT NULL,
            event TEXT NOT NULL,
            recorded_at TEXT NOT NULL,
            actor TEXT NOT NULL,
            reason TEXT NOT NULL,
            command_id TEXT NOT NULL,
            correlation_id TEXT NOT NULL,
            causation_id TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            life INTEGER NOT NULL,
            terminal INTEGER NOT NULL,
            data TEXT NOT NULL,
            hash BLOB NOT NULL
        ) STRICT
        """,
        "CREATE UNIQUE INDEX one_version_once ON events (task_id, version)",
        "CREATE UNIQUE INDEX one_end_a_life ON events (task_id, life) WHERE terminal = 1",
        """
        CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
        """,
        """
        CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
        """,
        """
        CREATE TABLE answers (
            command_id TEXT PRIMARY KEY,
            digest BLOB NOT NULL,
            task_id INTEGER NOT NULL,
            position INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE epochs (
            epoch INTEGER PRIMARY KEY,
            pid INTEGER NOT NULL,
            host TEXT NOT NULL,
            started_at TEXT NOT NULL
        ) STRICT
        """,
    ):
        db.execute(statement)


@migrations()
def find_adjustments(db: Database) -> None:
    """An index on adjustments of a task, which stand among the service's records."""
    db.execute(f"CREATE INDEX adjustments ON events ({ADJUSTED_TASK}) WHERE {IS_ADJUSTMENT}")


@migrations()
def sum_rows(db: Database) -> None:
    """A sum in each row of answers and epochs, which the hash chain does not cover: it reveals an altered row."""
    for statement in (
        "CREATE TEMP TABLE old_answers AS SELECT * FROM answers",
        "CREATE TEMP TABLE old_epochs AS SELECT * FROM epochs",
        "DROP TABLE answers",
        "DROP TABLE epochs",
        """
        CREATE TABLE answers (
            command_id TEXT PRIMARY KEY,
            digest BLOB NOT NULL,
            task_id INTEGER NOT NULL,
            position INTEGER NOT NULL,
            sum BLOB NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE epochs (
            epoch INTEGER PRIMARY KEY,
            pid INTEGER NOT NULL,
            host TEXT NOT NULL,
            started_at TEXT NOT NULL,
            sum BLOB NOT NULL
        ) STRICT
        """,
    ):
        db.execute(statement)
    applied = db.execute(APPLIED).fetchall()
    answers = db.execute("SELECT command_id, digest, task_id, position FROM temp.old_answers ORDER BY command_id")
    db.conn.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", ((*row, checksum(row)) for row in answers))
    epochs = db.execute("SELECT epoch, pid, host, started_at FROM temp.old_epochs")
    db.conn.executemany(
        "INSERT INTO epochs VALUES (?, ?, ?, ?, ?)", ((*row, epoch_sum(row, applied)) for row in epochs)
    )
    db.execute("DROP TABLE temp.old_answers")
    db.execute("DROP TABLE temp.old_epochs")


@migrations()
def drop_records(db: Database) -> None:
    """A stub may replace a record while the event that drops it is the last of the log, so in the same commit."""
    db.execute("CREATE INDEX drops ON events (position) WHERE event = 'tasks_forgotten'")
    db.execute("DROP TRIGGER events_are_not_deleted")
    db.execute(
        """
        CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
        WHEN (SELECT event FROM events ORDER BY position DESC LIMIT 1) != 'tasks_forgotten'
        BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
        """
    )


@migrations()
def archive_records(db: Database) -> None:
    """The beginning of the log may be in archives. Besides dropped records, only archived ones may be deleted."""
    db.execute(
        """
        CREATE TABLE archives (
            first INTEGER PRIMARY KEY,
            last INTEGER NOT NULL,
            newest_task INTEGER NOT NULL,
            root TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            size INTEGER NOT NULL,
            sum BLOB NOT NULL
        ) STRICT
        """
    )
    db.execute("DROP TRIGGER events_are_not_deleted")
    db.execute(
        """
        CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
        WHEN (SELECT event FROM events ORDER BY position DESC LIMIT 1) != 'tasks_forgotten'
            AND old.position > (SELECT coalesce(max(last), 0) FROM archives)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
        """
    )


@migrations()
def find_in_archives(db: Database) -> None:
    """Which archives have records of a kind, or of a task. A start fills this in for archives that exist already."""
    db.execute(
        """
        CREATE TABLE archived_kinds (
            event TEXT NOT NULL,
            first INTEGER NOT NULL,
            PRIMARY KEY (event, first)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute(
        """
        CREATE TABLE archived_tasks (
            task_id INTEGER NOT NULL,
            first INTEGER NOT NULL,
            PRIMARY KEY (task_id, first)
        ) STRICT, WITHOUT ROWID
        """
    )


def apply(conn: sqlite3.Connection, until: int | None = None) -> None:
    """Bring the schema of a log, or of an empty file, up to date, or only to the state after `until` migrations."""
    db = Database(conn, execute_plugins=False)
    with db.atomic():
        db.execute(_LIST)
        db.execute(_LIST_INDEX)
    migrations.apply(db, stop_before=NAMES[until:] if until is not None else None)


def made_by(number: int) -> Objects:
    """The schema of a log after the first `number` migrations."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        apply(conn, number)
        return objects(conn)
