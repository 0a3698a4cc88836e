"""The answer: whether a replay reproduces the recorded history, and what another policy would have led to."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

import msgspec

from ..actors.core.state import SchedulerState
from .policy import Policy
from .recording import Recording
from .replay import Replay
from .timeline import EVERY_TYPE, Life, LifeKey, Measures, Start, Timeline, measure


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first start in which log and replay differ; None where one of them has no further start."""

    number: int
    """The number of the start, from 1."""
    recorded: Start | None
    replayed: Start | None


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """How the replay under the recorded policy compares with the log, up to the moment the last service stopped.

    Two starts are the same if task, attempt, time (to the microsecond), effective priority, and whether the attempt
    resumed from a checkpoint are the same.
    """

    recorded_starts: int
    replayed_starts: int
    same: int
    exact: bool
    """Whether all starts are the same, in the same order."""
    first_difference: Difference | None = None


class TypeRow(msgspec.Struct, frozen=True, kw_only=True):
    """The measures of one type or of all: recorded, replayed under the recorded policy, and under the asked one."""

    type: str
    """Empty for all types together."""
    recorded: Measures
    replayed: Measures
    asked: Measures | None = None


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A task whose first start differs between the recorded policy and the asked one, both replayed."""

    task_id: int
    life: int
    type: str
    recorded: datetime | None
    replayed: datetime | None
    asked: datetime | None
    moved: float | None
    """Seconds, negative for earlier; None if it starts in only one of the two."""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How many first starts come earlier, later, at the same time, or in only one of the two replays."""

    earlier: int = 0
    later: int = 0
    same: int = 0
    no_more: int = 0
    only_then: int = 0


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a replay: attempts guessed, commands refused, tasks passed over."""

    guessed: int
    """Attempts whose length or end is not in the log; they ran as their type usually does."""
    refused: int
    """Commands of the log that were refused in the replay."""
    passed_over: int
    """Tasks that did not fit while others were started ahead of them."""


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    first_position: int
    last_position: int
    records: int
    began_at: datetime | None
    ended_at: datetime | None
    slots: int
    """Attempts that could run at once, as far as the log shows."""
    slots_asked: int
    fidelity: Fidelity
    rows: tuple[TypeRow, ...]
    replayed: Played
    asked: Played | None = None
    moved: Moved | None = None
    changed: tuple[Changed, ...] = ()
    assumptions: tuple[str, ...] = ()


def compare_policies(
    recording: Recording,
    recorded: Policy,
    asked: Policy,
    *,
    to_the_end: bool = True,
    assumptions: tuple[str, ...] = (),
    new_state: Callable[..., SchedulerState] = SchedulerState,
    progress: Callable[[int, float], None] = lambda _play, _share: None,
) -> WhatIf:
    """Replay the recording under the recorded policy, and again under the asked one.

    Args:
        recording: the recorded history.
        recorded: the policy of that time.
        asked: the policy in question.
        to_the_end: whether to play on after the end of the recording until nothing more happens.
        assumptions: the assumptions made, in words.
        new_state: makes the Scheduler's memory.
        progress: called with the number of the replay, 0 or 1, and the share of the recording that it has played.
    """
    until = None if to_the_end else recording.ended_at
    first = Replay(recording, recorded, listen=True, new_state=new_state)
    replayed = first.play(until, partial(progress, 0))
    second = None if asked.change.changes_nothing else Replay(recording, asked, new_state=new_state)
    other = None if second is None else second.play(until, partial(progress, 1))
    slots, slots_asked = _slots(recorded), _slots(asked)
    moved = None if other is None else _moves(recording.timeline, replayed, other)
    return WhatIf(
        first_position=recording.first_position,
        last_position=recording.last_position,
        records=recording.records,
        began_at=recording.began_at,
        ended_at=recording.ended_at,
        slots=slots,
        slots_asked=slots_asked,
        fidelity=fidelity_of(recording, replayed),
        rows=_rows(
            measure(recording.timeline, slots),
            measure(replayed, slots),
            None if other is None else measure(other, slots_asked),
        ),
        replayed=_played(first),
        asked=None if second is None else _played(second),
        moved=None if moved is None else _count(moved),
        changed=() if moved is None else _most(moved, asked.change.rows),
        assumptions=assumptions,
    )


def fidelity_of(recording: Recording, replayed: Timeline) -> Fidelity:
    """Compare log and replay start by start, up to the time when the last service stopped."""
    end = recording.stopped_at or recording.ended_at
    recorded = [start for start in recording.timeline.starts if end is None or start.at <= end]
    played = [start for start in replayed.starts if end is None or start.at <= end]
    known = {(start.task_id, start.attempt): start for start in recorded}
    same = sum(known.get((start.task_id, start.attempt)) == start for start in played)
    return Fidelity(
        recorded_starts=len(recorded),
        replayed_starts=len(played),
        same=same,
        exact=recorded == played,
        first_difference=_first_difference(recorded, played),
    )


def _first_difference(recorded: list[Start], played: list[Start]) -> Difference | None:
    for number in range(max(len(recorded), len(played))):
        one = recorded[number] if number < len(recorded) else None
        other = played[number] if number < len(played) else None
        if one != other:
            return Difference(number=number + 1, recorded=one, replayed=other)
    return None


def _slots(policy: Policy) -> int:
    return min(policy.slots, policy.limits.max_concurrent)


def _played(player: Replay) -> Played:
    return Played(guessed=player.guessed, refused=player.refused, passed_over=len(player.passed_over))


def _rows(
    recorded: dict[str, Measures], replayed: dict[str, Measures], asked: dict[str, Measures] | None
) -> tuple[TypeRow, ...]:
    nothing = Measures(tasks=0, started=0)
    names = sorted({*recorded, *replayed, *(asked or {})} - {EVERY_TYPE})
    return tuple(
        TypeRow(
            type=name,
            recorded=recorded.get(name, nothing),
            replayed=replayed.get(name, nothing),
            asked=None if asked is None else asked.get(name, nothing),
        )
        for name in (*names, EVERY_TYPE)
    )


# --- moves ------------------------------------------------------------------------------------------------------


def _moves(recorded: Timeline, replayed: Timeline, asked: Timeline) -> list[Changed]:
    keys = sorted({*replayed.lives, *asked.lives})
    return [_move(key, recorded.lives.get(key), replayed.lives.get(key), asked.lives.get(key)) for key in keys]


def _move(key: LifeKey, recorded: Life | None, replayed: Life | None, asked: Life | None) -> Changed:
    known = replayed or asked
    assert known is not None
    then = replayed.started_at if replayed else None
    now = asked.started_at if asked else None
    return Changed(
        task_id=key[0],
        life=key[1],
        type=known.type,
        recorded=recorded.started_at if recorded else None,
        replayed=then,
        asked=now,
        moved=None if then is None or now is None else (now - then).total_seconds(),
    )


def _count(moves: list[Changed]) -> Moved:
    counts = {"earlier": 0, "later": 0, "same": 0, "no_more": 0, "only_then": 0}
    for move in moves:
        match move:
            case Changed(moved=float() as seconds):
                counts["earlier" if seconds < 0 else "later" if seconds > 0 else "same"] += 1
            case Changed(replayed=datetime()):
                counts["no_more"] += 1
            case Changed(asked=datetime()):
                counts["only_then"] += 1
    return Moved(**counts)


def _most(moves: list[Changed], rows: int) -> tuple[Changed, ...]:
    """Return the tasks that start in only one replay, then those that move furthest; at most `rows`."""
    changed = [move for move in moves if move.replayed != move.asked]
    changed.sort(key=lambda move: (move.moved is not None, -abs(move.moved or 0.0), move.task_id))
    return tuple(changed[:rows])
