"""Commands of operators: limits, pauses, drains. Recorded on the system stream, so that they hold over restarts."""

from msgspec.structs import asdict

from ...events import OperatorCommand
from ...events.operator_commands import AddSchedule, DrainQueue, PauseQueue, RemoveSchedule, ResumeQueue, SetLimits
from ...events.system_events import LimitsChanged, QueueDrained, QueuePaused, QueueResumed, SystemEvent
from ..errors import NothingToChange
from . import scheduling
from .messages import Intake
from .pauses import EVERYTHING, scope_of
from .turn import SCHEDULER, Origin, Turn

_NOT_RECORDED = frozenset({"command_id", "actor", "reason", "correlation_id"})


def handle(turn: Turn, command: OperatorCommand, intake: Intake, origin: Origin) -> int:
    """Carry out a command; the position of what was recorded. A refusal raises and changes nothing."""
    event: SystemEvent
    match command:
        case SetLimits():
            event = _limits(turn, command)
        case PauseQueue():
            event = _pause(turn, QueuePaused(type=command.type, user_id=command.user_id))
        case DrainQueue():
            event = _pause(turn, QueuePaused(drain=True))
        case ResumeQueue():
            event = _resume(turn, command)
        case AddSchedule():
            event = scheduling.added(turn, command, intake)
        case RemoveSchedule():
            event = scheduling.removed(turn, command)
    position = turn.record(0, event, origin)
    if isinstance(event, LimitsChanged | QueuePaused | QueueResumed):
        turn.look_again()
    return position


def note_drained(turn: Turn) -> None:
    """Record that a drain has reached its end, once."""
    pause = turn.state.pauses.everything
    if pause is not None and pause.drain and not pause.drained and not turn.state.running:
        turn.record(0, QueueDrained(), Origin(actor=SCHEDULER.actor, causation_id=f"event:{pause.position}"))


def _limits(turn: Turn, command: SetLimits) -> LimitsChanged:
    change = LimitsChanged(**{name: value for name, value in asdict(command).items() if name not in _NOT_RECORDED})
    if change == LimitsChanged():
        raise NothingToChange("The command names no limit to change")
    book = turn.state.limit_book
    if book.changed_by(change) == book.changes:
        raise NothingToChange("The limits are set so already")
    return change


def _pause(turn: Turn, event: QueuePaused) -> QueuePaused:
    scope = _scope(event)
    held = turn.state.pauses.of(*scope)
    if held is not None and (held.drain or not event.drain):
        raise NothingToChange(f"{_words(event)} is paused already, since position {held.position}")
    return event


def _resume(turn: Turn, command: ResumeQueue) -> QueueResumed:
    event = QueueResumed(type=command.type, user_id=command.user_id)
    if turn.state.pauses.of(*_scope(event)) is None:
        raise NothingToChange(f"{_words(event)} is not paused")
    return event


def _scope(event: QueuePaused | QueueResumed) -> tuple[str, str | int]:
    if event.type is not None and event.user_id is not None:
        raise NothingToChange("A pause is about a type or about a user", field="user_id", remedy="Send two commands.")
    return scope_of(event)


def _words(event: QueuePaused | QueueResumed) -> str:
    if event.type is not None:
        return f"Type {event.type}"
    return "The queue" if scope_of(event) == EVERYTHING else f"User {event.user_id}"
