"""The schema of log.db and its migrations. A migration's function name is its identity: never rename one."""

import sqlite3
from functools import cache
from typing import Any, TypeAlias

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from .chain import checksum

_IS_ADJUSTMENT = "event = 'adjusted'"
_ADJUSTED_TASK = "CASE WHEN json_valid(data) THEN json_extract(data, '$.task_id') END"
"""An index is used where a query says just this."""
WITH_ADJUSTMENTS = f"""
    position IN (
        SELECT position FROM events WHERE task_id = :task_id
        UNION ALL SELECT position FROM events WHERE {_IS_ADJUSTMENT} AND {_ADJUSTED_TASK} = :task_id
    ) ORDER BY position
"""  # noqa: S608 - our own words
"""The records of a task, and those of the service that adjust it."""
OF_PARTS = f"""
    position IN (
        SELECT position FROM json_each(:parts) AS part CROSS JOIN events
        WHERE task_id = json_extract(part.value, '$[0]') AND version > json_extract(part.value, '$[1]')
            AND version <= json_extract(part.value, '$[2]') AND position <= :until
        UNION ALL SELECT position FROM json_each(:parts) AS part CROSS JOIN events
        WHERE {_IS_ADJUSTMENT} AND {_ADJUSTED_TASK} = json_extract(part.value, '$[0]')
            AND position > json_extract(part.value, '$[3]') AND position <= :until
    ) ORDER BY position
"""  # noqa: S608 - our own words
"""The records of parts of tasks' lives, with their adjustments."""
STATUS_SINCE = """
    SELECT coalesce((
        SELECT position FROM events WHERE task_id = ? AND event NOT IN ('progressed', 'checkpointed')
        ORDER BY version DESC LIMIT 1
    ), 0)
"""

SET = "tasktrail.log"
migrations = Migrations(SET)
# As `sqlite_utils` makes them today; they must not look otherwise because a later version of it does so.
_LIST = """CREATE TABLE IF NOT EXISTS "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
)"""
_LIST_INDEX = """CREATE UNIQUE INDEX IF NOT EXISTS "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")"""
APPLIED = 'SELECT "id", "migration_set", "name", "applied_at" FROM "_sqlite_migrations" ORDER BY "id"'

Objects: TypeAlias = dict[tuple[str, str], tuple[str, str | None]]
"""(type, name) → (table, statement) of everything in a schema."""


@migrations()
def create_log(db: Database) -> None:
    """The events, the answers to command ids, and the epochs of services.

    STRICT, so that SQLite checks types. The unique indexes are promises, not speed: one version once, one end a life.
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
    """What adjusts a task stands among the service's records, and is found without reading them all."""
    db.execute(f"CREATE INDEX adjustments ON events ({_ADJUSTED_TASK}) WHERE {_IS_ADJUSTMENT}")


@migrations()
def sum_rows(db: Database) -> None:
    """The hash chain covers the events. A sum in each other row shows that its values are those that were written."""
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
    """A record may give way to a stub, once another one that says so is the last of the log: in one commit with it."""
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
    """The beginning of the log may be in archives. Only what these say is in them may be deleted, besides for stubs."""
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
    """Which archives have records of a kind, or of a task. For those that are there already a start fills it in."""
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


NAMES = ("create_log", "find_adjustments", "sum_rows", "drop_records", "archive_records", "find_in_archives")
"""The migrations there are, in order."""


_SUMMED = NAMES.index("sum_rows") + 1


def sums_rows(applied: int) -> bool:
    """Whether a log that has had so many migrations has sums in the rows outside the chain."""
    return applied >= _SUMMED


def epoch_sum(row: tuple[Any, ...], applied: list[tuple[Any, ...]]) -> bytes:
    """The sum of an epoch's row. It covers the list of migrations as well, as it was when the epoch was taken."""
    return checksum((*row, *(value for migration in applied for value in migration)))


def migrate(db: Database) -> None:
    """Bring the schema of a log, or of an empty file, up to date."""
    with db.atomic():
        db.execute(_LIST)
        db.execute(_LIST_INDEX)
    migrations.apply(db)


@cache
def expected(number: int) -> Objects:
    """What a log has in its schema after the first `number` migrations."""
    db = Database(memory=True, execute_plugins=False)
    try:
        db.execute(_LIST)
        db.execute(_LIST_INDEX)
        migrations.apply(db, stop_before=NAMES[number:])
        return objects(db.conn)
    finally:
        db.close()


def objects(conn: sqlite3.Connection) -> Objects:
    """What a database has in its schema."""
    rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return {(kind, name): (table, statement) for kind, name, table, statement in rows}
