"""What would happen if a task's own reasons to wait were gone: a dry run of the dispatch that changes nothing.

Whoever would take the last place before it, or has resources kept for it, is what `HigherPriority` means.
"""

from collections import Counter
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from ...events import TaskState
from ...events.priority import queue_key
from .admission import Limits, Sample, fits
from .dispatch import BACKFILL_DEPTH, bound_of
from .fair_share import EQUAL, Entry, Share
from .gates import Gate, GateKind, gates_of, is_full
from .oversized import at_best
from .state import SchedulerState
from .waiting import Room, room_for

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES = {GateKind.TYPE: "types", GateKind.USER: "users", GateKind.LABEL: "labels"}


_ALONE = -1
"""Marks tasks that do not stand in the queue: the one in question, and those that were too big before."""


class World(msgspec.Struct):
    """The limits, the machine and the room that the dry run goes by: as they are, and just enough for the task."""

    limits: Limits
    sample: Sample
    room: Room
    open_gates: frozenset[Gate]
    """Gates whose pause is lifted, since the task is behind them."""


def lifted(state: SchedulerState, task: TaskState) -> World:
    """The world in which the task's own reasons are gone, and nothing more: one slot, one place, the bytes it needs."""
    room = room_for(state, task)
    limits, sample = state.limits, state.sample
    memory, temp = task.memory_needed, task.temp_needed
    tables = {name: dict(getattr(limits, name)) for name in _TABLES.values()}
    for gate in gates_of(task):
        if is_full(gate, limits, room.tally):
            tables[_TABLES[gate[0]]][str(gate[1])] = room.tally.counts[gate] + 1
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
        open_gates=frozenset(gates_of(task)),
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
        if not can_start and not at_best(world.limits, world.sample, world.room.reserved).bears(other):
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
        best = at_best(world.limits, world.sample, world.room.reserved)
        others = state.too_big.borne(best) if only is None else only
        alone = [task, *(state.tasks[one] for one in others if one != task.id)]
        best_of_each = state.queue.best() if only is None else []
        best_of_each += [(gates_of(one), (*queue_key(one), _ALONE)) for one in alone]
        self._gates = [gates for gates, _ in best_of_each]
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
        """The next one whose gates are open."""
        while self._heap:
            _, entry, number = heappop(self._heap)
            if any(map(self._is_shut, self._gates[number])):
                continue  # gates only shut while tasks start, so the whole bucket is out
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
        room.tally.take(task)
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
        return not fitting or any(map(self._is_shut, gates_of(task)))

    def _show_next(self, number: int) -> None:
        if number not in self._rest:
            self._rest[number] = self._state.queue.after_best(self._gates[number])
        entry = next(self._rest[number], None)
        if entry is not None:
            heappush(self._heap, (self._share(number), entry, number))

    def _share(self, number: int) -> Share:
        if not self._world.limits.fair_share:
            return EQUAL
        gate = next(gate for gate in self._gates[number] if gate[0] is GateKind.USER)
        user_id = int(gate[1])
        last = self._state.turns.of(user_id)
        if user_id in self._started:
            last = self._state.position + self._started[user_id]
        return Share(self._world.room.tally.counts[gate], last)

    def _is_shut(self, gate: Gate) -> bool:
        if gate not in self._world.open_gates and self._state.pauses.of(*gate) is not None:
            return True
        return is_full(gate, self._world.limits, self._world.room.tally)
