"""Fills free slots: the best ready task first. Smaller ones may start past one that does not fit, up to a bound.

`who_goes_first` makes the same decisions without starting anything: it names the tasks that would start before a given
one, or have resources kept for them, if that task's own reasons to wait were gone.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from ...events import Started, TaskState
from ...events.commands import GiveUp
from ...events.decide import decide
from ...events.errors import CannotStartNow
from ...events.priority import queue_key, terms
from ...events.reports import Run
from .dependencies import ended
from .limits import (
    LIMIT_TABLES,
    LimitKey,
    LimitKeys,
    LimitKind,
    Limits,
    RunningCounts,
    is_full,
    limit_keys_of,
    queue_keys_of,
)
from .node_search import Search, lift_for, place
from .nodes import Nodes, Spot, need_of
from .queue import EQUAL, Entry, Share
from .resources import Ceiling, MachineSample, Reserved, ceiling_of, fits, lowest, machine_is_busy
from .routing import Offer, Workers, pick
from .state import Running, SchedulerState, beat_every
from .unit_of_work import BY_SCHEDULER, Origin, UnitOfWork

BACKFILL_BOUND = 32
"""How many tasks may start past one that does not fit. Then resources are kept for it."""
BACKFILL_DEPTH = 64
"""How many tasks that do not fit are passed in search of one that fits; for several nodes see `Search`."""
_ONE_BY_ONE = 64
"""Up to this many tasks are put into the queue one at a time, more of them all at once."""
_FEW = 16
"""If at most this many tasks go first, it is tried which of them can be left out."""
UNSTARTABLE = "CannotStart"
"""The error type of a task that cannot even be ordered to run."""


class Situation(NamedTuple):
    """Everything that decides which task starts next, except the order of the queue."""

    limits: Limits
    sample: MachineSample
    reserved: Reserved
    others_run: bool
    """Whether other attempts run, which will give resources back."""
    overtaken: Mapping[int, int]
    """Task that did not fit → how many have started past it."""
    bound: int
    """When this many have started past a task, resources are kept for it."""
    nodes: Nodes | None = None
    """None if there is only this machine."""
    search: Search | None = None
    """The search for a place on the nodes; None if there is only this machine."""
    is_short: Callable[[TaskState], bool] = lambda _: False

    def ceiling(self) -> Ceiling:
        """What a task could have once all our attempts have ended. With nodes, their total: no task may exceed it."""
        return ceiling_of(self.limits, self.sample, self.reserved)

    def passes_over(self, task: TaskState) -> bool:
        """Whether all tasks in the task's bucket of the queue wait for nodes."""
        return self.search is not None and self.search.passes_over(task, short=self.is_short(task))

    def can_start_more(self) -> bool:
        """Whether, as far as nodes matter, further tasks are worth looking at."""
        return self.search is None or self.search.can_start_more()


class Choice(NamedTuple):
    """The task that starts next, and those that come before it in the queue."""

    task: TaskState | None
    passed: list[TaskState]
    """Tasks before it that do not fit now."""
    too_big: list[TaskState]
    """Tasks before it that would not fit even once all our attempts have ended."""
    keeps_resources: bool = False
    """Whether resources are kept for the last of `passed`: no later task was looked at."""
    node: str = ""
    """Where `task` starts; empty if there is only this machine."""


def choose(situation: Situation, waiting: Iterator[TaskState]) -> Choice:
    """Decide which of the waiting tasks, given in the order of the queue, starts next. Changes nothing."""
    limits, sample, reserved = situation.limits, situation.sample, situation.reserved
    ceiling: Ceiling | None = None
    # Keeping resources helps only while something runs that will give some back, or has just done so.
    bound = situation.bound if situation.others_run or reserved.more_to_come else math.inf
    search = situation.search
    passed: list[TaskState] = []
    too_big: list[TaskState] = []
    in_vain = 0
    for task in waiting:
        if roomy := fits(task, limits, sample, reserved):
            if search is None:
                return Choice(task, passed, too_big)
            if (spot := search.place(task, short=situation.is_short(task))) is not None:
                return Choice(task, passed, too_big, node=spot.node)
        ceiling = ceiling or situation.ceiling()
        if not ceiling.suffices_for(task) or not (search is None or search.could_hold(task)):
            too_big.append(task)
            continue
        passed.append(task)
        overtaken = situation.overtaken.get(task.id, 0)
        if overtaken >= bound:
            if search is None or not roomy:  # it waits for something that all nodes share
                return Choice(None, passed, too_big, keeps_resources=True)
            # One more node each time that it was overtaken `bound` times: the first ones may be kept in vain.
            search.keep_for(task, max(1, overtaken // max(1, situation.bound)))
        in_vain += search is None or not roomy
        if machine_is_busy(sample, limits) or in_vain >= BACKFILL_DEPTH or not situation.can_start_more():
            break
    return Choice(None, passed, too_big)


def overtaken_by(choice: Choice, nodes: Nodes | None) -> Iterator[int]:
    """The tasks that the chosen one overtakes. It takes nothing from a task that its node could never hold."""
    if choice.task is None:
        return
    for task in choice.passed:
        if nodes is None or nodes.by_name[choice.node].could_hold(task):
            yield task.id


def dispatch(work: UnitOfWork) -> None:
    """Start all tasks that can start now. After that the queue is not looked at again until something changes."""
    state = work.state
    if not state.queue and not state.set_aside:
        return
    if state.looked_in_vain_at == _deciding_state(state):
        return
    _take_back(work)
    while _may_start(state):
        choice = _next_fitting(state)
        if choice.task is None:
            break
        _start_or_give_up(work, choice.task, choice.node)
    state.looked_in_vain_at = _deciding_state(state)


def _may_start(state: SchedulerState) -> bool:
    if state.draining or state.durable.pauses.everything is not None or not len(state.queue):
        return False
    if state.nodes.local_drains and not state.nodes.many:
        return False
    return state.workers.has_room(state.limits.max_concurrent, short=True)


def _deciding_state(state: SchedulerState) -> tuple[object, ...]:
    """Everything that decides which task starts next, except what only a start changes."""
    reserved = state.reserved
    return (
        state.queue.changes,
        state.free_slots,
        state.workers.has_room(state.limits.max_concurrent, short=True),
        state.draining,
        state.durable.pauses.everything,
        state.limits,
        state.sample,
        reserved.memory,
        reserved.temp,
        reserved.unused_memory,
        reserved.unused_temp,
        reserved.beyond,
        reserved.gone_memory,
        reserved.gone_temp,
        state.nodes.changes,
    )


def _take_back(work: UnitOfWork) -> None:
    """Queue all tasks that were set aside and may fit now. With only some, the best could come after the others."""
    state = work.state
    if not state.set_aside:
        return
    ceiling = ceiling_of(state.limits, state.sample, state.reserved)
    if state.nodes.many:
        if state.set_aside.looked_at == (state.nodes.growth, ceiling):
            return
        back = [task for task in _fitting_nodes(state, state.nodes, ceiling) if state.nodes.could_hold(task)]
        state.set_aside.looked_at = (state.nodes.growth, ceiling)
    else:
        back = [state.tasks[task_id] for task_id in state.set_aside.fitting(ceiling)]
    if len(back) > _ONE_BY_ONE:
        work.place_all(back)
    else:
        for task in back:
            work.place(task)


def _fitting_nodes(state: SchedulerState, nodes: Nodes, ceiling: Ceiling) -> Iterator[TaskState]:
    """Yield the tasks that were set aside and need no more than some suitable node could give."""
    for need in state.set_aside.needs():
        one = next(state.set_aside.with_need(need), None)
        best = None if one is None else lowest(ceiling, nodes.ceiling(state.tasks[one]))
        for task_id in () if best is None else state.set_aside.fitting(best, need):
            yield state.tasks[task_id]


def _next_fitting(state: SchedulerState) -> Choice:
    """Take the task that starts next out of the queue. The tasks that it overtakes keep their places."""
    situation = Situation(
        state.limits,
        state.sample,
        state.reserved,
        bool(state.running),
        state.overtaken,
        bound_of(state),
        state.nodes if state.nodes.many else None,
        Search(state.nodes, state.limits, state.free_slots) if state.nodes.many else None,
        state.is_short,
    )
    choice = choose(situation, iter(partial(_pop, state, situation, state.free_slots > 0), None))
    state.queue.bring_back()
    for task in choice.too_big:
        most = situation.ceiling()
        if situation.nodes is None:
            state.set_aside.park(task, most)
        else:
            state.set_aside.park(task, lowest(most, situation.nodes.ceiling(task)), need_of(task))
        if situation.nodes is None:  # a node that could hold it may only be away, or not sampled, for a short time
            state.overtaken.pop(task.id, None)
    for task in choice.passed:
        state.queue.push(task)
    for task_id in overtaken_by(choice, situation.nodes):
        state.overtaken[task_id] = state.overtaken.get(task_id, 0) + 1
    return choice


def _pop(state: SchedulerState, situation: Situation, worker_is_free: bool) -> TaskState | None:  # noqa: FBT001 - for `partial`
    """Take the next task to look at. None also if it needs a worker to itself and none is free: all later ones wait.

    A task that could not start on any worker is returned all the same: it is set aside.
    """
    task_id = state.queue.peek()
    while task_id is not None and situation.passes_over(state.tasks[task_id]):
        if not situation.can_start_more():
            return None
        state.queue.pass_over()
        task_id = state.queue.peek()
    if task_id is None:
        return None
    task = state.tasks[task_id]
    if not (worker_is_free or state.is_short(task)) and situation.ceiling().suffices_for(task):
        return None
    state.queue.remove(task_id)
    return task


def bound_of(state: SchedulerState) -> int:
    """How many tasks may start past a task that does not fit."""
    return BACKFILL_BOUND if state.backfill_bound is None else state.backfill_bound


def _start_or_give_up(work: UnitOfWork, task: TaskState, node: str) -> None:
    """Start the task. If that fails it ends, and its end says why: it must not keep the others from starting."""
    try:
        prepared = _prepare(work, task, node)
    except Exception as error:  # noqa: BLE001 - whatever an odd task from an old log leads to
        why = f"The task cannot be started: {type(error).__name__}: {error}"
        command = GiveUp(task_id=task.id, error=why, error_type=UNSTARTABLE, rule="cannot start")
        work.record_all(task.id, decide(task, command, work.decision_context()), BY_SCHEDULER)
        ended(work, task.id)
    else:
        _start(work, task, *prepared, BY_SCHEDULER)


def start_now(work: UnitOfWork, task: TaskState, origin: Origin = BY_SCHEDULER) -> int:
    """Give a task a slot and its resources, record `Started`, and order the run. Returns the position of `Started`.

    Raises `CannotStartNow` if no node has a place for it.
    """
    state = work.state
    node = ""
    if state.nodes.many:
        spot = place(state.nodes, task, state.limits, state.free_slots, short=state.is_short(task))
        if spot is None:
            raise CannotStartNow(f"Task {task.id} has no place on any node just now")
        node = spot.node
    return _start(work, task, *_prepare(work, task, node), origin)


def _prepare(work: UnitOfWork, task: TaskState, node: str) -> tuple[Started, Run]:
    """The event and the order for the task's start. It changes nothing, so an error leaves nothing half done."""
    state, spec, checkpoint = work.state, task.spec, task.resume_from
    parts, short = terms(task, work.now), state.is_short(task)
    offer = _offer_of(state, task, node, short=short)
    event = Started(
        effective_priority=round(parts.total, 3),
        terms=parts,
        resumed=checkpoint is not None,
        node=node,
        clock=work.now if state.rates and work.stands_still else None,
    )
    run = Run(
        task.id,
        task.attempt + 1,
        spec.type,
        spec.input_file,
        spec.output_file,
        spec.options,
        checkpoint,
        f"{state.work_root}/{task.id}",
        spec.overwrite,
        state.grace[spec.type],
        task.needed,
        task.estimate is not None,
        beat_every(spec),
        spec.estimated_time,
        spec.traceparent,
        spec.depends_on,
        spec.dependency_names,
        offer=offer,
        original=spec.original,
        original_folder=spec.original_folder,
        hash_input=bool(spec.batch),
        shared_workers=int(short and not offer),
        node=node,
    )
    return event, run


def _offer_of(state: SchedulerState, task: TaskState, node: str, *, short: bool) -> Offer:
    """The offer of the worker that the attempt gets."""
    label = task.spec.worker_label
    if not node:
        return state.workers.place(label, state.limits.max_concurrent, short=short) or ()
    workers = state.nodes.by_name[node].workers
    return workers.place(label, workers.held + max(0, state.free_slots), short=short) or ()


def _start(work: UnitOfWork, task: TaskState, event: Started, run: Run, origin: Origin) -> int:
    state = work.state
    queued_at = state.queued_at(task)
    state.queue.remove(task.id)
    state.overtaken.pop(task.id, None)
    position = work.record(task.id, event, origin)
    task = state.tasks[task.id]
    running = Running(task.id, task.attempt, position, task, work.now, queued_at=queued_at)
    running.offer, running.short, running.node = run.offer, bool(run.shared_workers), run.node
    state.hold(running)
    state.shut_by_rates(task)
    work.watch_attempt(running)
    if running.short:
        workers = state.nodes.by_name[run.node].workers if run.node else state.workers
        run = replace(run, shared_workers=workers.shared)
    work.order(run)
    return position


class InUse(msgspec.Struct):
    """What is in use, from the view of one task: its own attempt, if it is being stopped, counts as gone."""

    workers: Workers
    max_concurrent: int
    reserved: Reserved
    running_counts: RunningCounts
    nodes: Nodes
    """Never changed if there is only this machine."""

    @property
    def room(self) -> int:
        """How many more workers may be held."""
        return self.workers.room(self.max_concurrent)

    def has_room(self, *, short: bool) -> bool:
        """Whether there is a worker for one more attempt, or a share of one."""
        return self.workers.has_room(self.max_concurrent, short=short)

    def take_worker(self, task: TaskState, node: str, *, short: bool) -> None:
        """Take a worker for one more attempt."""
        label, room = task.spec.worker_label, self.room
        if not self.nodes.many:
            offer = self.workers.place(label, self.max_concurrent, short=short) or ()
            self.workers.take(offer, self.max_concurrent, short=short and not offer)
            return
        workers = self.nodes.by_name[node].workers
        offer = workers.place(label, workers.held + max(0, room), short=short) or ()
        self.nodes.take(Spot(node, offer), task, room, short=short and not offer)
        self.workers.take(offer, self.max_concurrent, short=short and not offer)
        self.nodes.count_into(self.workers)

    def lift_for(self, label: str, *, short: bool) -> None:
        """Make room for one more attempt. If no free worker has the label, the one with the fewest labels gets it."""
        if short and self.has_room(short=True):
            return
        workers = self.workers
        least = workers.held + 1
        self.max_concurrent = max(self.max_concurrent, least)
        if workers.slots < least:
            workers.add((), least - workers.slots)
        if pick(workers.free(), "") is None:
            workers.add((), 1)
        if label and pick(workers.free(), label) is None:
            other = pick(workers.free(), "") or ()
            workers.add(other, -1)
            workers.add(tuple(sorted((*other, label))), 1)


def in_use_without(state: SchedulerState, task: TaskState) -> InUse:
    """A copy of what is in use now, without the task's own attempt. The copy may be changed."""
    reserved, running_counts = replace(state.reserved), RunningCounts(state.running_counts.counts.copy())
    workers, nodes = state.workers.copy(), state.nodes
    own = state.running.get(task.id)
    if nodes.many:
        nodes = nodes.copy()
    if own is not None:
        reserved.give_back(own.reserved_for, own.used)
        running_counts.give_back(own.reserved_for)
        workers.give_back(own.offer, short=own.short)
        if nodes.many:
            nodes.give_back(Spot(own.node, own.offer), own.reserved_for, own.used, short=own.short)
            nodes.count_into(workers)
    return InUse(workers, state.limits.max_concurrent, reserved, running_counts, nodes)


def who_goes_first(state: SchedulerState, task: TaskState) -> tuple[int, ...]:
    """The tasks that would start instead, or that resources are kept for; empty if the task itself would start.

    At most `_FEW` are reduced to as few as possible: alone with them in the queue the task waits, and without any one
    of them it starts. That takes a dry run for each of them, so a longer list is not reduced.
    """
    named = _goes_first(state, task)
    before: tuple[int, ...] = named if len(named) > _FEW else ()
    while named != before:
        before = named
        for one in before:
            fewer = tuple(other for other in named if other != one)
            named = fewer if _goes_first(state, task, fewer) else named
    return named


def _goes_first(state: SchedulerState, task: TaskState, only: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The tasks of `only`, or of all, that start or have resources kept for them until the task cannot start."""
    dry_run = _DryRun(state, task, only)
    while True:
        situation = dry_run.situation()
        choice = choose(situation, dry_run.waiting(situation))
        if choice.task is None and dry_run.held_up_by is not None:
            return (*dry_run.started, dry_run.held_up_by)
        if choice.task is None:
            kept = choice.passed[-1:] if choice.keeps_resources else choice.passed
            return (*dry_run.started, *(one.id for one in kept))
        if choice.task.id == task.id:
            return ()
        dry_run.start(choice)
        if dry_run.keeps_out(task):
            return tuple(dry_run.started)


_ALONE = -1
"""Marks tasks that are not in the queue: the one in question, and those that were set aside."""


class _DryRun:
    """Simulates the dispatch as if the task's own reasons to wait were gone. Nothing really starts.

    Only these reasons are gone: there is one slot, one place under each limit, and just the bytes that the task needs.
    """

    def __init__(self, state: SchedulerState, task: TaskState, only: tuple[int, ...] | None) -> None:
        self.started: list[int] = []
        self.held_up_by: int | None = None
        """The task that needs a worker to itself while none is free: all later tasks wait with it."""
        self._left: dict[LimitKey, int | None] = {}
        """Type, user or label with a rate → how many of it may still start."""
        self._state = state
        self._task = task
        self._in_use = in_use_without(state, task)
        self._others_run = len(state.running) > (task.id in state.running)
        self._overtaken = Counter(state.overtaken)
        self._lift(task)
        ceiling = ceiling_of(self._limits, self._sample, self._in_use.reserved)
        nodes = self._in_use.nodes
        if only is not None:
            others = [state.tasks[one] for one in only]
        elif nodes.many:
            others = list(_fitting_nodes(state, nodes, ceiling))
        else:
            others = [state.tasks[one] for one in state.set_aside.fitting(ceiling)]
        self._keys: list[LimitKeys] = []
        """Number of a bucket, counted in this dry run → the keys that its tasks share."""
        self._rest: dict[int, Iterator[Entry]] = {}
        """Number of a bucket → its tasks that were not shown yet. Most buckets are never asked for a second task."""
        self._looked_at: list[tuple[Entry, int]] = []
        """The tasks looked at since the last start."""
        self._last_start: dict[int, int] = {}
        """User → the number of the user's last start here, counted over all starts from 1."""
        self._heap: list[tuple[Share, Entry, int]] = []
        """The next task of each bucket that was looked at. Its user's share may have grown meanwhile."""
        self._own = task.spec.user_id if task.id in state.running else None
        """The task's user, if the task's own attempt is being stopped. It counts as gone here, so this user comes
        earlier than in the queue."""
        self._line = state.queue.in_line(self._passes) if only is None else iter(())
        self._next_in_line = next(self._line, None)
        for keys, entry in state.queue.best_of(self._own) if self._own is not None and only is None else ():
            self._add(keys, entry)
        for one in (task, *(other for other in others if other.id != task.id)):
            self._add(queue_keys_of(one), (*queue_key(one), _ALONE))

    def _add(self, keys: LimitKeys, entry: Entry) -> None:
        self._keys.append(keys)
        self._push(entry, len(self._keys) - 1)

    def _push(self, entry: Entry, number: int) -> None:
        heappush(self._heap, (self._share(number), entry, number))

    def _passes(self, key: LimitKey) -> bool:
        """Whether the buckets parked at this key may start. A key that is closed now stays closed while tasks start."""
        return not self._is_closed(key)

    def _lift(self, task: TaskState) -> None:
        in_use, limits, sample = self._in_use, self._state.limits, self._state.sample
        reserved, memory, temp = in_use.reserved, task.memory_needed, task.temp_needed
        tables = {name: dict(getattr(limits, name)) for name in LIMIT_TABLES.values()}
        self._lifted_keys = frozenset(limit_keys_of(task))
        self._lifted_nodes = frozenset() if in_use.nodes.many else frozenset(queue_keys_of(task)) - self._lifted_keys
        for key in self._lifted_keys:
            if is_full(key, limits, in_use.running_counts):
                tables[LIMIT_TABLES[key[0]]][str(key[1])] = in_use.running_counts.counts[key] + 1
        in_use.lift_for(task.spec.worker_label, short=self._state.is_short(task))
        self._limits = replace(
            limits,
            max_memory=max(limits.max_memory, reserved.memory + memory),
            max_temp_size=max(limits.max_temp_size, reserved.temp + temp),
            max_cpu=max(limits.max_cpu, sample.cpu_percent),
            **tables,
        )
        self._sample = replace(
            sample,
            memory_available=max(sample.memory_available, reserved.unused_memory + memory),
            memory_total=max(sample.memory_total, memory),
            temp_free=max(sample.temp_free, reserved.unused_temp + temp),
            temp_total=max(sample.temp_total, temp),
            disk_low=False,
        )
        if in_use.nodes.many:
            short = self._state.is_short(task)
            lift_for(in_use.nodes, task, self._limits, short=short, room=max(1, in_use.room))
            in_use.nodes.count_into(in_use.workers)
            in_use.max_concurrent = max(in_use.max_concurrent, in_use.workers.held + 1)

    def situation(self) -> Situation:
        """The situation that the dispatch would be in now."""
        others_run = self._others_run or bool(self.started)
        bound = bound_of(self._state)
        in_use = self._in_use
        return Situation(
            self._limits,
            self._sample,
            in_use.reserved,
            others_run,
            self._overtaken,
            bound,
            in_use.nodes if in_use.nodes.many else None,
            Search(in_use.nodes, self._limits, in_use.room) if in_use.nodes.many else None,
            self._state.is_short,
        )

    def waiting(self, situation: Situation) -> Iterator[TaskState]:
        """Yield the waiting tasks that neither a limit nor a pause keeps from starting, in the order of the queue."""
        while self._comes_up():
            share, entry, number = heappop(self._heap)
            if any(map(self._is_closed, self._keys[number])):
                continue  # more and more limits are reached while tasks start, so the whole bucket is out
            if share != self._share(number):
                self._push(entry, number)  # others may come before it now
                continue
            if entry[1] != self._task.id and situation.passes_over(self._state.tasks[entry[1]]):
                if not situation.can_start_more():
                    return
                self._looked_at.append((entry, number))  # and the rest of its bucket is not shown
                continue
            if entry[2] != _ALONE:
                self._show_next(number)
            if entry[1] == self._task.id and entry[2] != _ALONE:
                continue
            task = self._state.tasks[entry[1]]
            if not self._in_use.has_room(short=self._state.is_short(task)):
                if not situation.ceiling().suffices_for(task):
                    continue  # it would be set aside
                self.held_up_by = task.id
                return
            self._looked_at.append((entry, number))
            yield task

    def start(self, choice: Choice) -> None:
        """Give the chosen task its place and its resources. The tasks before it are looked at again."""
        task = choice.task
        assert task is not None
        self.started.append(task.id)
        self._overtaken.update(overtaken_by(choice, self.situation().nodes))
        self._in_use.take_worker(task, choice.node, short=self._state.is_short(task))
        self._in_use.reserved.take(task)
        self._in_use.running_counts.take(task)
        self._last_start[task.spec.user_id] = len(self.started)
        for key in limit_keys_of(task):
            left = self._starts_left(key)
            if left is not None:
                self._left[key] = left - 1
        again, self._looked_at = self._looked_at[:-1], []
        for entry, number in again:
            self._push(entry, number)

    def keeps_out(self, task: TaskState) -> bool:
        """Whether the task cannot start any more: no slot, no place under a limit, or not enough resources are left."""
        roomy = self._in_use.has_room(short=self._state.is_short(task))
        fitting = roomy and fits(task, self._limits, self._sample, self._in_use.reserved)
        if fitting and self._in_use.nodes.many:
            short = self._state.is_short(task)
            fitting = place(self._in_use.nodes, task, self._limits, self._in_use.room, short=short) is not None
        return not fitting or any(map(self._is_closed, queue_keys_of(task)))

    def _comes_up(self) -> bool:
        """Whether there is another task. If so, the best one is in the heap."""
        while (best := self._next_in_line) is not None:
            share, entry, keys = best
            if self._heap and self._heap[0][:2] < (share, entry):
                break
            self._next_in_line = next(self._line, None)
            if self._own is None or (LimitKind.USER, self._own) not in keys:
                self._add(keys, entry)
        return bool(self._heap)

    def _show_next(self, number: int) -> None:
        if number not in self._rest:
            self._rest[number] = self._state.queue.after_best(self._keys[number])
        entry = next(self._rest[number], None)
        if entry is not None:
            self._push(entry, number)

    def _share(self, number: int) -> Share:
        if not self._limits.fair_share:
            return EQUAL
        key = next(key for key in self._keys[number] if key[0] is LimitKind.USER)
        user_id = int(key[1])
        last = self._state.durable.fair_share.of(user_id)
        if user_id in self._last_start:
            last = self._state.position + self._last_start[user_id]
        return Share(self._in_use.running_counts.counts[key], last)

    def _is_closed(self, key: LimitKey) -> bool:
        if key not in self._lifted_keys and self._state.durable.pauses.of(key) is not None:
            return True
        if key[0] is LimitKind.WORKER:
            return pick(self._in_use.workers.free(), str(key[1])) is None
        if key[0] is LimitKind.NODE:
            return key not in self._lifted_nodes and not self._in_use.nodes.is_open_for(str(key[1]))
        if key not in self._lifted_keys and self._state.windows.closes(key):
            return True
        return self._starts_left(key) == 0 or is_full(key, self._limits, self._in_use.running_counts)

    def _starts_left(self, key: LimitKey) -> int | None:
        """How many may start before the rate is reached; None if there is no rate."""
        state = self._state
        if not state.rates:
            return None
        if key not in self._left:
            left = state.rates.left(key, state.durable.starts, state.looked_at)
            self._left[key] = max(1, left) if left is not None and key in self._lifted_keys else left
        return self._left[key]
