"""The schema of log.db and its migrations. A migration's function name is its identity: never rename one."""

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

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
STATUS_SINCE = """
    SELECT coalesce((
        SELECT position FROM events WHERE task_id = ? AND event NOT IN ('progressed', 'checkpointed')
        ORDER BY version DESC LIMIT 1
    ), 0)
"""

migrations = Migrations("tasktrail.log")


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
