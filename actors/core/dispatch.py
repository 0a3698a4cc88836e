"""Fill free slots: the best ready task first, smaller ones past those that do not fit, but not for ever.

`who_goes_first` asks the same question without starting anything: which tasks would start before a given one, or have
resources kept for them, if the task's own reasons to wait were gone.
"""

from collections import Counter
from heapq import heapify, heappop, heappush
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import Started, TaskState
from ...events.commands import GiveUp
from ...events.decide import decide
from ...events.priority import queue_key, terms
from ...events.reports import Run
from .dependencies import ended
from .limits import LimitKey, LimitKind, Limits, RunningCounts, is_full, limit_keys_of
from .queue import EQUAL, Entry, Share
from .resources import Reserved, Sample, fits, machine_is_busy, most_available
from .state import Running, SchedulerState, beat_every
from .turn import SCHEDULER, Origin, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKFILL_BOUND = 32
"""So many tasks may start past one that does not fit; then resources are kept for it."""
BACKFILL_DEPTH = 64
"""So far down the queue a fitting task is looked for."""
_ONE_BY_ONE = 64
"""So many tasks are put into the queue one at a time; more of them all at once."""
UNSTARTABLE = "CannotStart"
"""The error type of a task that cannot even be ordered to run."""
Sight: TypeAlias = tuple[object, ...]


def dispatch(turn: Turn) -> None:
    """Start whatever can start now. While nothing changes after a look that found nobody, no other is taken."""
    state = turn.state
    if state.found_nobody_in == _sight(state):
        return
    _take_back(turn)
    while state.free_slots > 0 and len(state.queue) and not state.draining and state.durable.pauses.everything is None:
        task = _next_fitting(state)
        if task is None:
            break
        _start_or_give_up(turn, task)
    state.found_nobody_in = _sight(state)


def _sight(state: SchedulerState) -> Sight:
    """All that decides who starts next, beside what only a start changes."""
    reserved = state.reserved
    return (
        state.queue.changes,
        state.free_slots,
        state.draining,
        state.durable.pauses.everything,
        state.limits,
        state.sample,
        reserved.memory,
        reserved.temp,
        reserved.unseen_memory,
        reserved.unseen_temp,
        reserved.gone_memory,
        reserved.gone_temp,
    )


def _take_back(turn: Turn) -> None:
    """Queue those that stood aside and may fit now: all, or the best of them could come behind the others."""
    state = turn.state
    best = most_available(state.limits, state.sample, state.reserved)
    back = [state.tasks[task_id] for task_id in state.set_aside.fitting(best)]
    if len(back) > _ONE_BY_ONE:
        turn.place_all(back)
    else:
        for task in back:
            turn.place(task)


def _next_fitting(state: SchedulerState) -> TaskState | None:
    best = most_available(state.limits, state.sample, state.reserved)
    aside: list[TaskState] = []
    chosen = None
    while len(aside) < BACKFILL_DEPTH:
        task_id = state.queue.pop()
        if task_id is None:
            break
        task = state.tasks[task_id]
        if fits(task, state.limits, state.sample, state.reserved):
            chosen = task
            break
        if not best.suffices_for(task):
            state.set_aside.park(task, best)
            state.overtaken.pop(task_id, None)
            continue
        aside.append(task)
        if machine_is_busy(state.sample, state.limits) or _has_been_overtaken_enough(state, task_id):
            break
    for task in aside:
        state.queue.push(task)
        if chosen is not None:
            state.overtaken[task.id] = state.overtaken.get(task.id, 0) + 1
    return chosen


def _has_been_overtaken_enough(state: SchedulerState, task_id: int) -> bool:
    """Keeping resources helps only while something runs that will give some back, or has just done so."""
    room_comes = bool(state.running) or state.reserved.more_to_come
    return room_comes and state.overtaken.get(task_id, 0) >= bound_of(state)


def bound_of(state: SchedulerState) -> int:
    """How many may start past a task that does not fit."""
    return BACKFILL_BOUND if state.backfill_bound is None else state.backfill_bound


def _start_or_give_up(turn: Turn, task: TaskState) -> None:
    """One task that cannot be started must not keep the others from it: it ends, and its end says why."""
    try:
        prepared = _prepare(turn, task)
    except Exception as error:  # noqa: BLE001 - whatever an odd task from an old log leads to
        told = f"The task cannot be started: {type(error).__name__}: {error}"
        command = GiveUp(task_id=task.id, error=told, error_type=UNSTARTABLE, rule="cannot start")
        turn.record_all(task.id, decide(task, command, turn.decision_context()), SCHEDULER)
        ended(turn, task.id)
    else:
        _start(turn, task, *prepared, SCHEDULER)


def start(turn: Turn, task: TaskState, origin: Origin = SCHEDULER) -> int:
    """Give a task a slot and its resources, record `Started`, and order the run; the position of `Started`."""
    return _start(turn, task, *_prepare(turn, task), origin)


def _prepare(turn: Turn, task: TaskState) -> tuple[Started, Run]:
    """What is recorded and ordered when the task starts. Changes nothing, so that a fault in it leaves nothing half."""
    state, spec, checkpoint = turn.state, task.spec, task.resume_from
    parts = terms(task, turn.now)
    event = Started(effective_priority=round(parts.total, 3), terms=parts, resumed=checkpoint is not None)
    run = Run(
        task.id,
        task.attempt + 1,
        spec.type,
        spec.input_file,
        spec.output_file,
        spec.options,
        checkpoint,
        str(PurePath(state.work_root) / str(task.id)),
        spec.overwrite,
        state.grace[spec.type],
        task.memory_needed,
        task.temp_needed,
        task.seconds_needed,
        task.estimate is not None,
        beat_every(spec),
        spec.estimated_time,
    )
    return event, run


def _start(turn: Turn, task: TaskState, event: Started, run: Run, origin: Origin) -> int:
    state = turn.state
    state.queue.remove(task.id)
    state.overtaken.pop(task.id, None)
    position = turn.record(task.id, event, origin)
    task = state.tasks[task.id]
    running = Running(task.id, task.attempt, position, task, turn.now)
    state.hold(running)
    turn.watch_attempt(running)
    turn.order(run)
    return position


class Room(msgspec.Struct):
    """What is taken, as seen by one task: its own attempt that is being stopped counts as gone."""

    free_slots: int
    reserved: Reserved
    running_counts: RunningCounts


def room_for(state: SchedulerState, task: TaskState) -> Room:
    """What is taken now, copied, so that it may be changed."""
    reserved, running_counts = replace(state.reserved), RunningCounts(state.running_counts.counts.copy())
    free = state.free_slots
    own = state.running.get(task.id)
    if own is not None:
        reserved.give_back(own.reserved_for, seen=own.seen)
        running_counts.give_back(own.reserved_for)
        free += 1
    return Room(free, reserved, running_counts)


_TABLES = {LimitKind.TYPE: "types", LimitKind.USER: "users", LimitKind.LABEL: "labels"}
_ALONE = -1
"""Marks tasks that do not stand in the queue: the one in question, and those that were too big before."""


class World(msgspec.Struct):
    """The limits, the machine and the room that the dry run goes by: as they are, and just enough for the task."""

    limits: Limits
    sample: Sample
    room: Room
    open_keys: frozenset[LimitKey]
    """LimitKeys whose pause is lifted, since the task is behind them."""


def lifted(state: SchedulerState, task: TaskState) -> World:
    """The world in which the task's own reasons are gone, and nothing more: one slot, one place, the bytes it needs."""
    room = room_for(state, task)
    limits, sample = state.limits, state.sample
    memory, temp = task.memory_needed, task.temp_needed
    tables = {name: dict(getattr(limits, name)) for name in _TABLES.values()}
    for key in limit_keys_of(task):
        if is_full(key, limits, room.running_counts):
            tables[_TABLES[key[0]]][str(key[1])] = room.running_counts.counts[key] + 1
    return World(
        limits=msgspec.structs.replace(
            limits,
            max_memory=max(limits.max_memory, room.reserved.memory + memory),
            max_temp_size=max(limits.max_temp_size, room.reserved.temp + temp),
            max_cpu=max(limits.max_cpu, sample.cpu_percent),
            **tables,
        ),
        sample=msgspec.structs.replace(
            sample,
            memory_available=max(sample.memory_available, room.reserved.unseen_memory + memory),
            memory_total=max(sample.memory_total, memory),
            temp_free=max(sample.temp_free, room.reserved.unseen_temp + temp),
            temp_total=max(sample.temp_total, temp),
            disk_low=False,
        ),
        room=msgspec.structs.replace(room, free_slots=max(room.free_slots, 1)),
        open_keys=frozenset(limit_keys_of(task)),
    )


def who_goes_first(state: SchedulerState, task: TaskState) -> tuple[int, ...]:
    """The tasks that would start instead, or that resources are kept for; none when the task would start itself.

    Only as many as it takes: alone with them in the queue the task waits, and without any one of them it starts.
    """
    named = _rehearsed(state, task)
    before: tuple[int, ...] = ()
    while named != before:
        before = named
        for one in before:
            fewer = tuple(other for other in named if other != one)
            named = fewer if _rehearsed(state, task, fewer) else named
    return named


def _rehearsed(state: SchedulerState, task: TaskState, only: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Those of `only`, or of all, that have started or have resources kept for them when the task cannot start."""
    world = lifted(state, task)
    started: list[int] = []
    aside: list[int] = []
    overtaken: Counter[int] = Counter()
    """Task that does not fit → how many have started past it in the rehearsal."""
    others = len(state.running) - (task.id in state.running)
    order = _Order(state, world, task, only)
    while len(aside) < BACKFILL_DEPTH and (other := order.next()) is not None:
        can_start = fits(other, world.limits, world.sample, world.room.reserved)
        if not can_start and not most_available(world.limits, world.sample, world.room.reserved).suffices_for(other):
            continue
        if other.id == task.id:
            return ()
        if not can_start:
            aside.append(other.id)
            waits_for_room = others or started or world.room.reserved.more_to_come
            if waits_for_room and state.overtaken.get(other.id, 0) + overtaken[other.id] >= bound_of(state):
                return (*started, other.id)
            continue
        started.append(other.id)
        order.start(other)
        if order.keeps_out(task):
            return tuple(started)
        overtaken.update(aside)
        aside = []
    return (*started, *aside)


class _Order:
    """The waiting tasks in the order in which the dispatch would look at them, the one in question among them."""

    def __init__(self, state: SchedulerState, world: World, task: TaskState, only: tuple[int, ...] | None) -> None:
        self._state = state
        self._world = world
        self._task = task
        best = most_available(world.limits, world.sample, world.room.reserved)
        others = state.set_aside.fitting(best) if only is None else only
        alone = [task, *(state.tasks[one] for one in others if one != task.id)]
        best_of_each = state.queue.best() if only is None else []
        best_of_each += [(limit_keys_of(one), (*queue_key(one), _ALONE)) for one in alone]
        self._keys = [keys for keys, _ in best_of_each]
        self._rest: dict[int, Iterator[Entry]] = {}
        """Number of a bucket → its tasks that have not been shown. Most buckets are never asked for a second one."""
        self._looked_at: list[tuple[Entry, int]] = []
        """Since the last start; the last of them is the task that `start` is about."""
        self._started: dict[int, int] = {}
        """User → of the starts so far, counted from 1, the last that was theirs."""
        self._starts = 0
        self._heap = [(self._share(number), entry, number) for number, (_, entry) in enumerate(best_of_each)]
        heapify(self._heap)

    def next(self) -> TaskState | None:
        """The next one that no limit and no pause keeps from starting."""
        while self._heap:
            _, entry, number = heappop(self._heap)
            if any(map(self._is_closed, self._keys[number])):
                continue  # while tasks start, limits are only reached; so the whole bucket is out
            if entry[2] != _ALONE:
                self._show_next(number)
            if entry[1] == self._task.id and entry[2] != _ALONE:
                continue
            self._looked_at.append((entry, number))
            return self._state.tasks[entry[1]]
        return None

    def start(self, task: TaskState) -> None:
        """The task, looked at last, takes its place and its resources; those before it are looked at again."""
        room = self._world.room
        room.free_slots -= 1
        room.reserved.take(task)
        room.running_counts.take(task)
        self._starts += 1
        self._started[task.spec.user_id] = self._starts
        again, self._looked_at = self._looked_at[:-1], []
        if self._world.limits.fair_share:  # somebody else's turn may be next
            again += [(entry, number) for _, entry, number in self._heap]
            self._heap = []
        for entry, number in again:
            heappush(self._heap, (self._share(number), entry, number))

    def keeps_out(self, task: TaskState) -> bool:
        """Whether the task cannot start any more: no slot, no place behind a limit, or not enough room is left."""
        world = self._world
        fitting = world.room.free_slots > 0 and fits(task, world.limits, world.sample, world.room.reserved)
        return not fitting or any(map(self._is_closed, limit_keys_of(task)))

    def _show_next(self, number: int) -> None:
        if number not in self._rest:
            self._rest[number] = self._state.queue.after_best(self._keys[number])
        entry = next(self._rest[number], None)
        if entry is not None:
            heappush(self._heap, (self._share(number), entry, number))

    def _share(self, number: int) -> Share:
        if not self._world.limits.fair_share:
            return EQUAL
        key = next(key for key in self._keys[number] if key[0] is LimitKind.USER)
        user_id = int(key[1])
        last = self._state.durable.fair_share.of(user_id)
        if user_id in self._started:
            last = self._state.position + self._started[user_id]
        return Share(self._world.room.running_counts.counts[key], last)

    def _is_closed(self, key: LimitKey) -> bool:
        if key not in self._world.open_keys and self._state.durable.pauses.of(key) is not None:
            return True
        return is_full(key, self._world.limits, self._world.room.running_counts)
