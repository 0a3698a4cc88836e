"""Every task at every position: one row for each change of its status or place, never changed afterwards.

A row says which status a task had from a position on, and its place in the order of priority and in the queue. All else
is read from the log, a few records for each task. Now and then a row holds the state itself, so that these records stay
few however long a life is. A change within an attempt, such as progress, makes a row only for that purpose.
"""

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from ...events import Recorded, TaskState
from ...events.log.inserting import insert_rows
from ...events.priority import static_priority
from . import zones
from .checksums import with_sums
from .fold import Change
from .rows import Standing, encode_state, standing, text_of
from .shares import Shares
from .tallies import Tallies
from .zones import Zones

KEPT = 32
"""Each version that is divisible by this has its state in its row."""
FEW = 2
"""Up to this version no row of a task has its state."""
TEXTS = 24
"""Bits for the number of a task's text, below the bits of the task's id."""

_TEXTS = "SELECT value, (SELECT max(number) FROM texts WHERE id = value) FROM json_each(?)"
_INTO_INDEX = "INSERT INTO {0} (rowid, type, input_file, output_file, error) VALUES (?, ?, ?, ?, ?)"
OF_PRIORITY = 32
"""The bits of a lane below those of its priority: the bonus, and whether its order is another than that of ids."""
_MOST = 1 << OF_PRIORITY - 2


def lane_of(state: TaskState) -> int:
    """The lane of a task: a number for each priority and bonus. Lanes are in the order of priority.

    In a lane the queue's order is that of ids, with the exception in `is_ordered`.
    """
    bonus = static_priority(state) - state.priority + _MOST
    strange = state.waiting_since != state.created_at or not 0 <= bonus < 2 * _MOST
    return (state.priority * 2 * _MOST + min(max(bonus, 0), 2 * _MOST - 1)) * 2 + strange


def priority_of(lane: int) -> int:
    """The priority of the tasks in a lane."""
    return lane >> OF_PRIORITY


def key_of(lane: int, waiting_since: float) -> float:
    """The place in the queue of a task in a lane, by the time since which it waits."""
    bonus = lane // 2 % (2 * _MOST) - _MOST
    return waiting_since - 60.0 * (priority_of(lane) + bonus)


def is_ordered(lane: int) -> bool:
    """Whether the queue's order in a lane is that of ids. Not so if tasks' waits count from a scheduled time."""
    return lane % 2 == 0


def lanes_with(priority: int) -> tuple[int, int]:
    """The first and the last lane of a priority."""
    return priority << OF_PRIORITY, (priority + 1 << OF_PRIORITY) - 1


class Versions:
    """Writes the tables for queries on the past, batch by batch, within the open transaction."""

    def __init__(self, conn: sqlite3.Connection, position: int) -> None:
        """`position`: the last one that the views have written."""
        self._conn = conn
        self._zones = Zones(conn)
        self._tallies = Tallies(conn)
        self._shares = Shares(conn, position)

    def write(
        self, records: Sequence[Recorded], changes: Sequence[Change], changed: Mapping[int, int]
    ) -> dict[int, Standing]:
        """Fold a batch in.

        Args:
            records: the batch.
            changes: the changes of tasks by its records, in order.
            changed: task → the position of the last event of its own before the batch.

        Returns:
            The standing of its tasks after the batch.
        """
        reached: dict[int, Standing] = {}
        rows: list[tuple[object, ...]] = []
        following = iter(changes)
        change = next(following, None)
        kind_of, count, share = self._tallies.kind_of, self._tallies.add_change, self._shares.add_move
        asked = msgspec.json.encode(list(changed)).decode()
        texts: dict[int, int] = {task_id: number or 0 for task_id, number in self._conn.execute(_TEXTS, (asked,))}
        """Task → the number of its latest text; 0 if it has had no error."""
        for record in records:
            position = record.position
            if position > self._tallies.last:
                self._tallies.go_on(position)
            if change is None or change.position != position:
                continue
            old, new = change.before, change.after
            task_id, spec = new.id, new.spec
            kind = kind_of(spec.type)
            count(change, kind)
            if old is not None and change.own and _has_other_error(old, new):
                texts[task_id] = self._add_text(old, new, position, texts.get(task_id, 0) + 1)
            before = reached[task_id][-1] if task_id in reached else changed.get(task_id, 0)
            at = reached[task_id] = standing(new, position if change.own else before)
            if _has_row(change):
                if change.own:
                    share(spec, kind, "" if old is None else old.status, new.status, position)
                rows.append(_row(change, kind, self._move(change, before), at, texts.get(task_id, 0)))
            change = next(following, None)
        insert_rows(self._conn, "INSERT INTO versions", with_sums(rows))
        self._zones.write()
        self._shares.write(records[-1].position)
        self._tallies.write()
        return reached

    def _move(self, change: Change, changed: int) -> int:
        """Enter and leave blocks. Running tasks are in no block, but in `tallies`. Returns the lane."""
        old, new, at = change.before, change.after, change.position
        enter, leave = self._zones.enter, self._zones.leave
        status, task_id, kind = new.status, new.id, new.spec.type
        was = "running" if old is None else old.status
        lane = lane_of(new)
        moved = old is None or was != status
        if moved or not change.own:
            # The task's own events do not change priority or time.
            before = lane if old is None or change.own else lane_of(old)
            if status != "running":
                enter(zones.by_lane(status, lane), task_id >> zones.LANES, at)
            if was != "running":
                leave(zones.by_lane(was, before), task_id >> zones.LANES, at)
        if moved:
            if status != "running":
                enter(zones.by_id(status), task_id >> zones.TASKS, at)
                enter(zones.by_id(status, kind), task_id >> zones.KINDS, at)
            if was != "running":
                leave(zones.by_id(was), task_id >> zones.TASKS, at)
                leave(zones.by_id(was, kind), task_id >> zones.KINDS, at)
        if change.own:
            if status != "running":
                enter(zones.by_change(status), at >> zones.TIMES, at)
            if was != "running":
                leave(zones.by_change(was), changed >> zones.TIMES, at)
        return lane

    def _add_text(self, before: TaskState, after: TaskState, position: int, number: int) -> int:
        """Index the words of a task whose error changes at this position, and return the text's number.

        `past_search` has them by task, and `text_moves` by position: 2p for words that begin to hold at p, and 2p + 1
        for words that cease to. The words of a task that has had no error are in `search` alone.
        """
        self._conn.executemany("INSERT INTO texts VALUES (?, ?, ?, ?)", with_sums([(after.id, number, position)]))
        text = text_of(after)
        self._conn.execute(_INTO_INDEX.format("past_search"), ((after.id << TEXTS) + number, *text))
        self._conn.execute(_INTO_INDEX.format("text_moves"), (2 * position, *text))
        if number > 1:
            self._conn.execute(_INTO_INDEX.format("text_moves"), (2 * position + 1, *text_of(before)))
        return number


def _has_other_error(before: TaskState, after: TaskState) -> bool:
    return (before.error or before.last_error) != (after.error or after.last_error)


def _has_row(change: Change) -> bool:
    """Whether a change gets a row: all do, except most changes within an attempt."""
    if change.before is None or change.before.status != "running" or change.after.status != "running":
        return True
    return change.own and change.after.version % KEPT == 0


def _has_state(change: Change) -> bool:
    """Whether its row gets the state. A retrying task's row does, too: it has a past, and pages show such tasks."""
    return change.own and (change.after.status == "retrying" or change.after.version % KEPT == 0)


def _row(change: Change, kind: int, lane: int, at: Standing, text: int) -> tuple[object, ...]:
    state = change.after
    queue_key, updated_at, changed = at
    return (
        change.position,
        state.id,
        state.status,
        kind,
        state.spec.user_id,
        lane,
        queue_key,
        changed,
        updated_at,
        state.version,
        text,
        encode_state(state) if _has_state(change) else None,
    )
