"""The finished tasks that a retention rule may forget: those that ended long ago and are not needed any more."""

import math
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from ...events.errors import InvalidValue
from ...events.ranges import is_within
from ...events.state import FINISHED
from ...events.system_events import RetentionRule
from ...events.task_events import ERASED
from ...events.values import MAX_INTEGER, check_whole, in_words
from ..views.forgotten import read_forgotten
from ..views.rows import read_notes
from ..views.schema import INPUT, OUTPUT

_OVER = f"""
SELECT id, status, type, user_id, batch, {INPUT}, {OUTPUT}, json_extract(spec, '$.original') = 'replace',
    updated_at, coalesce(json_extract(state, '$.version'), 1)
FROM tasks NOT INDEXED
WHERE id < ? AND status IN ({", ".join(f"'{status}'" for status in sorted(FINISHED))}) AND updated_at <= ?
ORDER BY id DESC
"""  # noqa: S608 - our own names
_REFERRING = "SELECT task_id FROM dependants WHERE depends_on = ?1 UNION SELECT id FROM tasks WHERE parent_task_id = ?1"
_WAITS = "SELECT 1 FROM notices WHERE task_id = ? AND state = 'pending'"
_LATER = f"SELECT 1 FROM tasks WHERE batch = ? AND batch <> '' AND {INPUT} = ? AND id > ?"  # noqa: S608 - our own names


class StillNeeded(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that a rule would forget by now, but that stay because something still needs them."""

    referred: int = 0
    """Other tasks that stay depend on them, or have them as their parent."""
    notices: int = 0
    """A notice is still to be sent."""
    files: int = 0
    """Without them a watched folder, or a batch that replaces its originals, would process a file again."""


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """How much was forgotten, or would be in a trial run."""

    tasks: int
    records: int
    """Records of the tasks, and of the service about them."""
    position: int = 0
    """The position of the last `TasksForgotten`; 0: nothing was forgotten."""
    kept: StillNeeded = StillNeeded()


LONGEST = 100 * 365 * 86400.0
"""Seconds."""


def rule_of(
    older_than: object,
    status: object = None,
    type: object = None,  # noqa: A002 - as the field
    user_id: object = None,
) -> RetentionRule:
    """The rule for a request to forget tasks. Raises `InvalidValue`."""
    if isinstance(older_than, timedelta):
        older_than = older_than.total_seconds()
    if isinstance(older_than, bool) or not isinstance(older_than, int | float) or not 0 <= older_than <= LONGEST:
        raise InvalidValue(
            f"older_than has to be seconds from 0 to {LONGEST:.0f}, not {in_words(older_than)}", field="older_than"
        )
    if status is not None and status not in FINISHED:
        raise InvalidValue(
            f"{in_words(status)} is no status of a task that is over",
            field="status",
            remedy="It is completed, failed or cancelled.",
        )
    if type is not None and not (isinstance(type, str) and type):
        raise InvalidValue(f"{in_words(type)} is no name of a type", field="type")
    if user_id is not None:
        user_id = check_whole(user_id, "user_id")
    return msgspec.convert(
        {"older_than": float(older_than), "status": status, "type": type, "user_id": user_id}, RetentionRule
    )


class Forgettable(NamedTuple):
    """A task that may be forgotten."""

    task_id: int
    version: int
    notes: Sequence[int]
    """Positions of the service's records about it."""


def forgettable(
    conn: sqlite3.Connection,
    rules: Sequence[RetentionRule],
    place: int,
    now: datetime,
    sources: Collection[str],
    below: int = MAX_INTEGER,
    kept: Counter[str] | None = None,
) -> Iterator[Forgettable]:
    """The tasks that the rule at `place` may forget now: no earlier rule matches them, and they are old enough.

    The newest come first, so that a task comes after those that refer to it. For some tasks of batches it checks
    whether their files exist.

    Args:
        conn: the views.
        rules: all rules.
        place: the index of the rule in question.
        now: the time.
        sources: the watched folders, whose tasks show which files were processed.
        below: only tasks with lower numbers.
        kept: counts the tasks that are still needed, by the fields of `StillNeeded`.
    """
    kept = Counter() if kept is None else kept
    age = rules[place].older_than
    if age is None:
        return
    forgotten = read_forgotten(conn)
    chosen: set[int] = set()

    def is_gone(task_id: int) -> bool:
        return task_id in chosen or is_within(task_id, forgotten)

    # With age 0 the clock must not matter: a task that ended while it was far ahead did not end later than now.
    ended_by = (now - timedelta(seconds=age)).timestamp() if age else math.inf
    for task_id, status, kind, user_id, *rest in conn.execute(_OVER, (below, ended_by)):
        *files, _ended, version = rest
        owner = None if ERASED in files else user_id
        if is_gone(task_id) or _first_fitting(rules, status, kind, owner) != place:
            continue
        if _prevents_repetition(conn, task_id, sources, *files):
            kept["files"] += 1
            continue
        if not all(is_gone(other) for (other,) in conn.execute(_REFERRING, (task_id,))):
            kept["referred"] += 1
            continue
        if conn.execute(_WAITS, (task_id,)).fetchone():
            kept["notices"] += 1
            continue
        chosen.add(task_id)
        yield Forgettable(task_id, version, read_notes(conn, task_id))


def count_forgettable(
    conn: sqlite3.Connection, rule: RetentionRule, now: datetime, sources: Collection[str]
) -> Forgotten:
    """How much a rule would forget; arguments as for `forgettable`."""
    tasks = records = 0
    kept = Counter[str]()
    for over in forgettable(conn, (rule,), 0, now, sources, kept=kept):
        tasks, records = tasks + 1, records + over.version + len(over.notes)
    return Forgotten(tasks=tasks, records=records, kept=StillNeeded(**kept))


def _first_fitting(rules: Sequence[RetentionRule], status: str, kind: str, owner: int | None) -> int | None:
    """The index of the first rule that matches; None: no rule does.

    `owner`: None if it was erased. Then the task stays if it may belong to a user whose tasks are kept.
    """
    for place, rule in enumerate(rules):
        its = rule.older_than is None if owner is None else rule.user_id == owner
        if rule.status in (None, status) and rule.type in (None, kind) and (rule.user_id is None or its):
            return place
    return None


def _prevents_repetition(
    conn: sqlite3.Connection, task_id: int, sources: Collection[str], batch: str, read: Any, written: Any, in_place: Any
) -> bool:
    """Whether without this task a watched folder, or a repeated batch, would process a file again."""
    if batch in sources and os.path.lexists(read or ""):
        return conn.execute(_LATER, (batch, read, task_id)).fetchone() is None
    return bool(batch and in_place and os.path.lexists(written or ""))
