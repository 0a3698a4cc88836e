"""What stands against a task itself: each reason with its numbers, evidence, and what would lift it."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from ...events import AdjustTask, StartTask, TaskState
from ...events.operator_commands import ResumeQueue, SetLimits
from ...events.recorded import timestamp
from .admission import Limits, Obstacle, Reserved, WaitReason, obstacles
from .dependencies import unmet
from .gates import LIMIT_REASONS, Gate, GateKind, Tally, gates_of, is_full, limit_of
from .pauses import Pause
from .state import SchedulerState
from .turn import Turn

_TABLES = {GateKind.TYPE: "types", GateKind.USER: "users", GateKind.LABEL: "labels"}
_RESOURCES = {
    WaitReason.MEMORY: "max_memory",
    WaitReason.TEMP_SPACE: "max_temp_size",
    WaitReason.CPU: "max_cpu",
}


class Room(msgspec.Struct):
    """What is taken, as seen by one task: its own attempt that is being stopped counts as gone."""

    free_slots: int
    reserved: Reserved
    tally: Tally


def room_for(state: SchedulerState, task: TaskState) -> Room:
    """What is taken now, copied, so that it may be changed."""
    reserved, tally = replace(state.reserved), Tally(state.tally.counts.copy())
    free = state.free_slots
    own = state.running.get(task.id)
    if own is not None:
        reserved.give_back(own.reserved_for, seen=own.seen)
        tally.give_back(own.reserved_for)
        free += 1
    return Room(free, reserved, tally)


def why_not_now(turn: Turn, task: TaskState) -> tuple[Obstacle, ...]:
    """What stands against starting this very task at once, ahead of the queue and of its own timer."""
    return (*recorded_obstacles(turn.state, task), *live_obstacles(turn.state, task))


def own_timers(state: SchedulerState, task: TaskState, now: datetime) -> tuple[Obstacle, ...]:
    """The hold and the times that the task waits for; `StartTask` puts itself above them."""
    found = []
    adjusted = state.adjusted_at.get(task.id)
    evidence = () if adjusted is None else (adjusted,)
    if task.held:
        release = (StartTask(task_id=task.id),)
        text = "is held until somebody starts it"
        found.append(Obstacle(WaitReason.HELD, text, "its release", {}, evidence, commands=release))
    scheduled = task.scheduled_for if task.started_at is None else None
    if scheduled is not None and scheduled > now:
        sooner = AdjustTask(task_id=task.id, scheduled_for=now)
        found.append(replace(_until(WaitReason.NOT_BEFORE, scheduled, now, evidence), commands=(sooner,)))
    not_before = state.not_before(task)
    if task.due_at is not None and task.due_at > now and not_before is not None and not_before >= task.due_at:
        by_hand = StartTask(task_id=task.id)
        found.append(replace(_until(WaitReason.RETRY_DELAY, task.due_at, now, ()), commands=(by_hand,)))
    return tuple(found)


def recorded_obstacles(state: SchedulerState, task: TaskState) -> tuple[Obstacle, ...]:
    """What the log alone tells: pauses and dependencies."""
    found = [_paused(pause) for pause in pauses_of(state, task)]
    return (*found, *unmet(state, task))


def live_obstacles(state: SchedulerState, task: TaskState) -> tuple[Obstacle, ...]:
    """What only a running service knows: handlers, slots, what runs beside, the machine."""
    found = []
    kind = task.spec.type
    if kind not in state.grace:
        text = f"no handler is installed for type {kind}"
        found.append(Obstacle(WaitReason.NO_HANDLER, text, "a restart with the handler installed"))
    if state.draining:
        found.append(Obstacle(WaitReason.SHUTTING_DOWN, "the service is stopping", "the next start of the service"))
    own = state.running.get(task.id)
    if own is not None:
        text = f"attempt {own.attempt} is still being stopped"
        position = (own.started_position,)
        found.append(Obstacle(WaitReason.STOPPING, text, "the end of its process tree", evidence=position))
    room = room_for(state, task)
    if room.free_slots <= 0:
        found.append(_no_slot(state))
    limits = state.limits
    found += [_full(state, gate) for gate in gates_of(task) if is_full(gate, limits, room.tally)]
    return (*found, *_with_holders(state, task, limits, room))


def pauses_of(state: SchedulerState, task: TaskState) -> tuple[Pause, ...]:
    """The pauses that the task is under."""
    found = [state.pauses.everything, *(state.pauses.of(*gate) for gate in gates_of(task))]
    return tuple(pause for pause in found if pause is not None)


def _with_holders(state: SchedulerState, task: TaskState, limits: Limits, room: Room) -> tuple[Obstacle, ...]:
    """What the machine's resources say; with the starts of the attempts that hold them, and where a limit was set."""
    starts = tuple(entry.started_position for entry in state.running.values() if entry.task_id != task.id)
    told = []
    for one in obstacles(task, limits, state.sample, room.reserved):
        holders = starts if "missing" in one.numbers else ()
        # What a limit stands against has a command that raises it.
        changed = state.limit_book.recorded(_RESOURCES[one.reason]) if one.commands else ()
        told.append(replace(one, evidence=(*holders, *changed)))
    return tuple(told)


def _until(reason: WaitReason, at: datetime, now: datetime, evidence: tuple[int, ...]) -> Obstacle:
    left = round((at - now).total_seconds(), 3)
    text = timestamp(at)
    return Obstacle(reason, f"not before {text}, in {left:,.0f} s", f"the time {text}", {"seconds": left}, evidence)


def _paused(pause: Pause) -> Obstacle:
    scope = "everything" if pause.user_id is None else f"user {pause.user_id}"
    scope = scope if pause.type is None else f"type {pause.type}"
    who = f" by {pause.actor}" if pause.actor else ""
    why = f": {pause.reason}" if pause.reason else ""
    word, end = ("being drained", "the end of the drain") if pause.drain else ("paused", "the end of the pause")
    resume = ResumeQueue(type=pause.type, user_id=pause.user_id)
    text = f"{scope} is {word}{who}{why}"
    return Obstacle(WaitReason.PAUSED, text, end, {}, (pause.position,), commands=(resume,))


def _no_slot(state: SchedulerState) -> Obstacle:
    used, limit = len(state.running), state.limits.max_concurrent
    more = used + 1
    return Obstacle(
        WaitReason.CONCURRENCY_LIMIT,
        f"{_attempts(used)} hold{'s' * (used == 1)} all the slots" if state.slots else "no worker is ready",
        "the end of an attempt, or more workers and a higher max_concurrent",
        {"running": used, "workers": state.slots, "limit": limit},
        (*(entry.started_position for entry in state.running.values()), *state.limit_book.recorded("max_concurrent")),
        tuple(state.running),
        # Where workers are what is missing a higher limit would change nothing.
        (SetLimits(max_concurrent=more),) if limit < more <= state.slots else (),
    )


def _attempts(number: int) -> str:
    return f"{number} attempt{'s' * (number != 1)}"


def _full(state: SchedulerState, gate: Gate) -> Obstacle:
    kind, name = gate
    limit = limit_of(gate, state.limits)
    holders = [entry for entry in state.running.values() if gate in gates_of(entry.reserved_for)]
    own = state.limit_book.recorded(_TABLES[kind], str(name))
    recorded = own or state.limit_book.recorded(f"max_per_{kind}")
    higher: dict[str, Any] = {_TABLES[kind]: {str(name): len(holders) + 1}}
    return Obstacle(
        LIMIT_REASONS[kind],
        f"{_attempts(len(holders))} of {kind} {name} run{'s' * (len(holders) == 1)}, {limit} may",
        f"the end of one of them, or a higher limit of {kind} {name}",
        {"running": len(holders), "limit": limit},
        (*(entry.started_position for entry in holders), *recorded),
        tuple(entry.task_id for entry in holders),
        (SetLimits(**higher),),
    )
