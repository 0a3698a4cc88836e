"""How every task was at every position: a row for each change of its place, never changed afterwards.

A row says which status a task had from a position on, and where in the order of priority and queue it stood. What else
a task says is read from the log, a few records a task; now and then a row holds the state itself, so that they stay
few however long a life is. A change within an attempt, such as progress, makes no row but for that.
"""

import sqlite3
from collections.abc import Mapping, Sequence

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
"""Up to this version a task has none."""
TEXTS = 24
"""Binary digits for the number of a text of a task, below the task's id."""

_TEXT = "INSERT INTO past_search (rowid, type, input_file, output_file, error) VALUES (?, ?, ?, ?, ?)"
_MOST = 1 << 30


def lane_of(state: TaskState) -> int:
    """A number for all with one priority and one bonus. In a lane the queue's order is that of ids, but see `ordered`.

    Lanes are in the order of priority.
    """
    bonus = static_priority(state) - state.priority + _MOST
    strange = state.waiting_since != state.created_at or not 0 <= bonus < 2 * _MOST
    return (state.priority * 2 * _MOST + min(max(bonus, 0), 2 * _MOST - 1)) * 2 + strange


def priority_of(lane: int) -> int:
    """The priority of the tasks in a lane."""
    return lane // (4 * _MOST)


def key_of(lane: int, waiting_since: float) -> float:
    """Where a task in a lane stands in the queue that waits since then."""
    bonus = lane // 2 % (2 * _MOST) - _MOST
    return waiting_since - 60.0 * (priority_of(lane) + bonus)


def is_ordered(lane: int) -> bool:
    """Whether the queue's order in a lane is that of ids. It is not where tasks count from the time they are for."""
    return lane % 2 == 0


def lanes_with(priority: int) -> tuple[int, int]:
    """The first and the last lane that a priority may have."""
    return priority * 4 * _MOST, (priority + 1) * 4 * _MOST - 1


class Versions:
    """Writes what is told of the past. One batch after another, within the transaction that is open."""

    def __init__(self, conn: sqlite3.Connection, position: int) -> None:
        """`position`: up to which the views have been written."""
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
            changes: what its records made of tasks, in order.
            changed: task → the position of the last event of its own before the batch.

        Returns:
            Where its tasks stand at its end.
        """
        reached: dict[int, Standing] = {}
        rows: list[tuple[object, ...]] = []
        following = iter(changes)
        change = next(following, None)
        kind_of, count, share = self._tallies.kind_of, self._tallies.see, self._shares.see
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
            before = reached[task_id][-1] if task_id in reached else changed.get(task_id, 0)
            at = reached[task_id] = standing(new, position if change.own else before)
            if _has_row(change):
                if change.own:
                    share(spec, kind, "" if old is None else old.status, new.status, position)
                rows.append(_row(change, kind, self._move(change, before), at))
            if old is not None and change.own:
                self._note_text(old, new, position)
            change = next(following, None)
        insert_rows(self._conn, "INSERT INTO versions", with_sums(rows))
        self._zones.write()
        self._shares.write(records[-1].position)
        self._tallies.write()
        return reached

    def _move(self, change: Change, changed: int) -> int:
        """Enter and leave blocks. Tasks that run are in none: they stand in `tallies`. Returns the lane."""
        old, new, at = change.before, change.after, change.position
        enter, leave = self._zones.enter, self._zones.leave
        status, task_id, kind = new.status, new.id, new.spec.type
        was = "running" if old is None else old.status
        lane = lane_of(new)
        moved = old is None or was != status
        if moved or not change.own:
            # An event of its own leaves priority and time alone.
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

    def _note_text(self, before: TaskState, after: TaskState, position: int) -> None:
        """Index the words that a task is found by from here on, and those before if these are the first that change."""
        if (before.error or before.last_error) == (after.error or after.last_error):
            return
        last = self._conn.execute("SELECT max(number) FROM texts WHERE id = ?", (after.id,)).fetchone()[0]
        if last is None:
            self._add_text(before, 0, 0)
        self._add_text(after, (last or 0) + 1, position)

    def _add_text(self, state: TaskState, number: int, since: int) -> None:
        self._conn.executemany("INSERT INTO texts VALUES (?, ?, ?, ?)", with_sums([(state.id, number, since)]))
        self._conn.execute(_TEXT, ((state.id << TEXTS) + number, *text_of(state)))


def _has_row(change: Change) -> bool:
    """All but changes within an attempt, of which only some have one."""
    if change.before is None or change.before.status != "running" or change.after.status != "running":
        return True
    return change.own and change.after.version % KEPT == 0


def _has_state(change: Change) -> bool:
    """That of a task which waits again is kept as well: such tasks have a past, and are asked for by the page."""
    return change.own and (change.after.status == "retrying" or change.after.version % KEPT == 0)


def _row(change: Change, kind: int, lane: int, at: Standing) -> tuple[object, ...]:
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
        encode_state(state) if _has_state(change) else None,
    )
