"""The Scheduler's step: `step(state, message, now) → (facts, effects)`. The actor runs it, and so can a simulator.

It changes `state` as if the facts were already in the log; a caller whose append fails must throw the state away and
fold the log again. The finished tasks and dependencies that a message is about must be in `state.tasks`: `needed`
tells which to load.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from ...events import CreateTask, EnableEndpoint, OperatorCommand, RedeliverNotice, RetryTask
from ...events.errors import NotReady
from . import commands, lifecycle, operators, reports
from .dispatch import dispatch
from .messages import Boot, Close, Delivered, Drain, LimitsChanged, Message, Sampled, Staged, Submit, Tick
from .state import Running, SchedulerState
from .turn import Origin, Turn


def needed(state: SchedulerState, message: Message) -> Iterator[int]:
    """Existing tasks that the message is about and memory does not hold, because they are finished.

    Ask again after loading them, until nothing comes: a retried task needs its dependencies too.
    """
    if not isinstance(message, Submit):
        return
    command = message.command
    if isinstance(command, OperatorCommand | RedeliverNotice | EnableEndpoint):
        return
    ids: tuple[int, ...] = command.depends_on if isinstance(command, CreateTask) else (command.task_id,)
    if isinstance(command, RetryTask) and command.task_id in state.tasks:
        ids = state.tasks[command.task_id].spec.depends_on
    for task_id in ids:
        if task_id not in state.tasks and 1 <= task_id <= state.last_task_id:
            yield task_id


def step(state: SchedulerState, message: Message, now: datetime) -> Staged:
    """What `message` leads to at `now`."""
    turn = Turn(state, now)
    if state.closed:
        _refuse(turn, message)
    else:
        _handle(turn, message)
        dispatch(turn)
        if not state.closed:
            operators.note_drained(turn)
    return Staged(turn.facts, turn.effects)


def _handle(turn: Turn, message: Message) -> None:
    match message:
        case Submit():
            commands.handle(turn, message)
        case Tick():
            lifecycle.tick(turn)
        case Sampled():
            lifecycle.sampled(turn, message.sample, message.temp_used)
        case LimitsChanged():
            lifecycle.limits_changed(turn, message.limits)
        case Delivered():
            turn.record(0, message.attempt, Origin(actor="notifier"))
        case Boot():
            lifecycle.boot(turn, message)
        case Drain():
            lifecycle.drain(turn)
        case Close():
            lifecycle.close(turn)
        case _:
            reports.handle(turn, message)


def _refuse(turn: Turn, message: Message) -> None:
    """After `Close` nothing is recorded any more: the service is as good as gone."""
    if isinstance(message, Submit):
        turn.answer(message.token, NotReady("The service has stopped"))


def resume(state: SchedulerState, running: Mapping[int, Running], now: datetime) -> Staged:
    """Go on with a state folded anew while the executor still holds the attempts in `running`."""
    turn = Turn(state, now)
    lifecycle.resume(turn, running)
    return Staged(turn.facts, turn.effects)
