"""The tables of a log in the schema `tasktrail`, and the check that they are as they were made."""

from collections.abc import Iterator

from ...errors import LogCorrupt
from ..faults import Fault
from .connection import RESTORE, Conn

ADJUSTED_TASK = "(data::json->>'task_id')::bigint"
"""PostgreSQL uses the index only if a query has exactly this expression."""
MIGRATIONS = ("create_log",)
"""All migrations, in order. Never rename one."""
_REFUSE_CHANGE = """
    BEGIN
        IF TG_OP = 'UPDATE' AND (SELECT event FROM tasktrail.events ORDER BY position DESC LIMIT 1) = 'tasks_forgotten'
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'the log is append-only';
    END
    """
_CREATE_LOG = (
    """
    CREATE TABLE tasktrail.events (
        position BIGINT PRIMARY KEY CHECK (position > 0),
        task_id BIGINT NOT NULL,
        version BIGINT NOT NULL,
        event TEXT COLLATE "C" NOT NULL,
        recorded_at TEXT COLLATE "C" NOT NULL,
        actor TEXT COLLATE "C" NOT NULL,
        reason TEXT COLLATE "C" NOT NULL,
        command_id TEXT COLLATE "C" NOT NULL,
        correlation_id TEXT COLLATE "C" NOT NULL,
        causation_id TEXT COLLATE "C" NOT NULL,
        attempt BIGINT NOT NULL,
        life BIGINT NOT NULL,
        terminal BIGINT NOT NULL,
        data TEXT COLLATE "C" NOT NULL,
        hash BYTEA NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX one_version_once ON tasktrail.events (task_id, version)",
    "CREATE UNIQUE INDEX one_end_a_life ON tasktrail.events (task_id, life) WHERE terminal = 1",
    f"CREATE INDEX adjustments ON tasktrail.events (({ADJUSTED_TASK})) WHERE event = 'adjusted'",
    "CREATE INDEX drops ON tasktrail.events (position) WHERE event = 'tasks_forgotten'",
    """
    CREATE TABLE tasktrail.answers (
        command_id TEXT COLLATE "C" PRIMARY KEY,
        digest BYTEA NOT NULL,
        task_id BIGINT NOT NULL,
        position BIGINT NOT NULL,
        sum BYTEA NOT NULL
    )
    """,
    """
    CREATE TABLE tasktrail.epochs (
        epoch BIGINT PRIMARY KEY,
        pid BIGINT NOT NULL,
        host TEXT NOT NULL,
        started_at TEXT NOT NULL,
        sum BYTEA NOT NULL
    )
    """,
    """
    CREATE TABLE tasktrail.owner (
        epoch BIGINT PRIMARY KEY,
        beat TIMESTAMPTZ NOT NULL
    )
    """,
    "INSERT INTO tasktrail.owner VALUES (0, 'epoch')",
    f"CREATE FUNCTION tasktrail.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $${_REFUSE_CHANGE}$$",
    """
    CREATE TRIGGER events_are_not_changed BEFORE UPDATE OR DELETE ON tasktrail.events
    FOR EACH ROW EXECUTE FUNCTION tasktrail.refuse_change()
    """,
    """
    CREATE TRIGGER events_are_not_cut BEFORE TRUNCATE ON tasktrail.events
    FOR EACH STATEMENT EXECUTE FUNCTION tasktrail.refuse_change()
    """,
)
_TABLES = {
    "events": {
        **dict.fromkeys(("position", "task_id", "version", "attempt", "life", "terminal"), "bigint"),
        **dict.fromkeys(("event", "recorded_at", "actor", "reason", "data"), "text"),
        **dict.fromkeys(("command_id", "correlation_id", "causation_id"), "text"),
        "hash": "bytea",
    },
    "answers": {"command_id": "text", "digest": "bytea", "task_id": "bigint", "position": "bigint", "sum": "bytea"},
    "epochs": {"epoch": "bigint", "pid": "bigint", "host": "text", "started_at": "text", "sum": "bytea"},
    "owner": {"epoch": "bigint", "beat": "timestamp with time zone"},
    "migrations": {"number": "bigint", "name": "text"},
}
"""Name → the types of its columns, none of which may be null."""
_INDEXES = {
    "events_pkey": (True, "events", "1", None, None),
    "one_version_once": (True, "events", "2 3", None, None),
    "one_end_a_life": (True, "events", "2 12", None, "(terminal = 1)"),
    "adjustments": (
        False,
        "events",
        "0",
        "(((data)::json ->> 'task_id'::text))::bigint",
        "(event = 'adjusted'::text)",
    ),
    "drops": (False, "events", "1", None, "(event = 'tasks_forgotten'::text)"),
    "answers_pkey": (True, "answers", "1", None, None),
    "epochs_pkey": (True, "epochs", "1", None, None),
    "owner_pkey": (True, "owner", "1", None, None),
}
"""Name → whether it is unique, its table, the numbers of its columns (0: the expression), the expression, its rows.

Expressions are as PostgreSQL writes them.
"""
_TRIGGERS = {"events_are_not_changed": 1 + 2 + 8 + 16, "events_are_not_cut": 2 + 32}
"""Name → when it fires, in PostgreSQL's bits: each row 1, before 2, DELETE 8, UPDATE 16, TRUNCATE 32."""
_FIND_KINDS = """
    SELECT relname, relkind::text FROM pg_class
    WHERE relnamespace = to_regnamespace('tasktrail') AND relname = ANY(%s) ORDER BY relname
"""
_FIND_COLUMNS = """
    SELECT relname, attname, format_type(atttypid, atttypmod) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'tasktrail'::regnamespace AND attnum > 0 AND NOT attisdropped AND attnotnull
"""
_APPLIED = "SELECT number, name FROM tasktrail.migrations ORDER BY number"
_FIND_INDEXES = """
    SELECT made.relname, indisvalid AND indisready, indisunique, its.relname, indkey::text,
        pg_get_expr(indexprs, indrelid), pg_get_expr(indpred, indrelid)
    FROM pg_index JOIN pg_class AS made ON made.oid = indexrelid JOIN pg_class AS its ON its.oid = indrelid
    WHERE made.relnamespace = 'tasktrail'::regnamespace
"""
_FIND_TRIGGERS = """
    SELECT tgname, tgtype::int FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE tgrelid = to_regclass('tasktrail.events') AND tgenabled = 'O' AND tgqual IS NULL AND tgattr::text = ''
        AND pronamespace = 'tasktrail'::regnamespace AND proname = 'refuse_change' AND prosrc = %s
        AND proconfig IS NULL
"""
_FIND_UNSAFE = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'tasktrail'::regnamespace AND relkind = 'r' AND relpersistence != 'p' ORDER BY relname
"""

_FIND_FOREIGN = """
    WITH ours AS (
        SELECT oid, relname, relrowsecurity FROM pg_class
        WHERE relnamespace = 'tasktrail'::regnamespace AND relname = ANY(%(tables)s)
    )
    SELECT format('trigger %%s of table %%s does not belong there', tgname, relname)
    FROM ours JOIN pg_trigger ON tgrelid = ours.oid
    WHERE NOT tgisinternal AND NOT (relname = 'events' AND tgname = ANY(%(ours)s))
    UNION ALL
    SELECT format('rule %%s of table %%s does not belong there', rulename, relname)
    FROM ours JOIN pg_rewrite ON ev_class = ours.oid
    UNION ALL
    SELECT format('row-level security of table %%s is switched on: rows may be hidden', relname)
    FROM ours WHERE relrowsecurity
    UNION ALL
    SELECT format('table %%s inherits from table %%s: its rows are read as well', inhrelid::regclass, relname)
    FROM ours JOIN pg_inherits ON inhparent = ours.oid
    UNION ALL
    SELECT format('table %%s refers to table %%s.%%s: its rows may be changed or deleted with those of that one',
        ours.relname, relnamespace::regnamespace, other.relname)
    FROM ours JOIN pg_constraint ON conrelid = ours.oid AND contype = 'f'
        JOIN pg_class AS other ON other.oid = confrelid
    ORDER BY 1
"""
"""What others have added by which records or answers may be changed, hidden or made up.

Internal triggers are those of references: from a table to another one, which is told as such, or to a table, which
change nothing in it.
"""


def has_log(conn: Conn) -> bool:
    """Whether the database has a log.

    Raises `LogCorrupt` if something else has the name of a table: reading a view may never return its first row. Also
    if there are tables of a log without the one that says which log it is: a new one cannot be begun there.
    Raises `psycopg.Error`.
    """
    kinds: dict[str, str] = dict(conn.execute(_FIND_KINDS, (list(_TABLES),)).fetchall())
    for name, kind in kinds.items():
        if kind != "r":
            raise LogCorrupt(f"tasktrail.{name} is not a table", remedy=RESTORE)
    if kinds and "migrations" not in kinds:
        there = ", ".join(sorted(kinds))
        raise LogCorrupt(
            f"tasktrail.migrations is missing, and other tables of a log are there: {there}", remedy=RESTORE
        )
    return bool(kinds)


def create(conn: Conn) -> None:
    """Make the tables if there are none, all or nothing. Raises `psycopg.Error`."""
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtext('tasktrail.schema'))")
        if has_log(conn):
            return
        conn.execute("CREATE SCHEMA IF NOT EXISTS tasktrail")
        conn.execute("CREATE TABLE tasktrail.migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL)")
        for statement in _CREATE_LOG:
            conn.execute(statement)
        conn.execute("INSERT INTO tasktrail.migrations VALUES (1, %s)", (MIGRATIONS[0],))


def schema_faults(conn: Conn) -> Iterator[Fault]:
    """Differences from the schema that `create` makes. Raises `psycopg.Error`."""
    applied = conn.execute(_APPLIED).fetchall()
    names = tuple(str(name) for _, name in applied)
    if len(names) > len(MIGRATIONS) and names[: len(MIGRATIONS)] == MIGRATIONS:
        yield Fault(
            0, "newer", f"a newer version has given it tables that this one does not know: {names[len(MIGRATIONS)]}"
        )
        return
    if names != MIGRATIONS:
        yield Fault(0, "schema", f"the migrations that were applied are {list(names)}, not {list(MIGRATIONS)}")
        return
    numbers, due = [number for number, _ in applied], list(range(1, len(MIGRATIONS) + 1))
    if numbers != due:
        yield Fault(0, "schema", f"the migrations that were applied have the numbers {numbers}, not {due}")
    faults = list(table_faults(conn))
    yield from (Fault(0, "schema", message) for _table, message in faults)
    gone = {table for table, message in faults if message == _gone(table)}
    indexes = {name: tuple(made) for name, *made in conn.execute(_FIND_INDEXES)}
    for name, made in _INDEXES.items():
        if made[1] not in gone and indexes.get(name) != (True, *made):
            yield Fault(0, "index", f"index {name} is missing, invalid, or not as it was made")
    triggers: dict[str, int] = dict(conn.execute(_FIND_TRIGGERS, (_REFUSE_CHANGE,)).fetchall())
    for name, fires in _TRIGGERS.items():
        if "events" not in gone and triggers.get(name) != fires:
            yield Fault(
                0,
                "schema",
                f"trigger {name} is missing, switched off, or not as it was made: the log can be changed",
            )
    for (name,) in conn.execute(_FIND_UNSAFE):
        yield Fault(0, "schema", f"table {name} is not logged: it is empty after a crash of the server")
    for (message,) in conn.execute(_FIND_FOREIGN, {"tables": list(_TABLES), "ours": list(_TRIGGERS)}):
        yield Fault(0, "schema", message)


def table_faults(conn: Conn) -> Iterator[tuple[str, str]]:
    """Tables and columns that are missing, or that may hold values which no log holds. Raises `psycopg.Error`.

    Each is the name of a table, and what is wrong in words.
    """
    existing = set(conn.execute(_FIND_COLUMNS))
    there = {table for table, *_ in existing}
    for table, columns in _TABLES.items():
        if table not in there:
            yield table, _gone(table)
            continue
        for column, kind in columns.items():
            if (table, column, kind) not in existing:
                yield table, f"column {column} of table {table} is missing, or not as it was made"


def _gone(table: str) -> str:
    return f"table {table} is missing"
