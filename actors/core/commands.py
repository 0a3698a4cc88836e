"""Commands of people and programs: decide, record, and put the task where it now belongs."""

from ...events import (
    Accepted,
    AdjustTask,
    CancelTask,
    CreateTask,
    EnableEndpoint,
    RedeliverNotice,
    RetryTask,
    SaveCheckpoint,
    StartTask,
    TasktrailError,
)
from ...events.decide import decide
from ...events.errors import CannotStartNow, NotReady
from . import notices, operators
from .dispatch import start
from .messages import Submit
from .turn import Origin, Turn
from .waiting import why_not_now


def handle(turn: Turn, submit: Submit) -> None:
    """Carry out a command, or answer with the reason why not; a refusal changes nothing."""
    command = submit.command
    if isinstance(command, CancelTask):
        running = turn.state.running.get(command.task_id)
        if running is not None and running.publishing:
            running.deferred.append(submit)
            return
    try:
        position, task_id = _carry_out(turn, submit)
    except TasktrailError as error:
        turn.answer(submit.token, error)
        return
    turn.answer(submit.token, Accepted(task_id, position, command.command_id))


def _origin(submit: Submit) -> Origin:
    command = submit.command
    return Origin(
        actor=command.actor,
        reason=command.reason,
        command_id=command.command_id,
        correlation_id=command.correlation_id,
        causation_id=f"command:{command.command_id}",
    )


def _carry_out(turn: Turn, submit: Submit) -> tuple[int, int]:
    command = submit.command
    match command:
        case CreateTask():
            return _create(turn, submit, command)
        case StartTask():
            return _start(turn, submit, command)
        case CancelTask():
            return _cancel(turn, submit, command)
        case RetryTask():
            return _retry(turn, submit, command)
        case SaveCheckpoint():
            events = decide(turn.state.tasks.get(command.task_id), command, turn.decision_facts())
            return turn.record_all(command.task_id, events, _origin(submit)), command.task_id
        case AdjustTask():
            return _adjust(turn, submit, command)
        case RedeliverNotice() | EnableEndpoint():
            return notices.carry_out(turn, command, submit.intake, _origin(submit))
        case _:
            return operators.handle(turn, command, submit.intake, _origin(submit)), 0


def _create(turn: Turn, submit: Submit, command: CreateTask) -> tuple[int, int]:
    state = turn.state
    if state.draining:
        raise NotReady("The service is stopping and takes no new tasks")
    intake = submit.intake.corrected(state.correction(command.type))
    events = decide(None, command, turn.decision_facts(intake))
    task_id = state.last_task_id + 1
    position = turn.record_all(task_id, events, _origin(submit))
    state.block(state.tasks[task_id])
    turn.place(state.tasks[task_id])
    return position, task_id


def _start(turn: Turn, submit: Submit, command: StartTask) -> tuple[int, int]:
    task = turn.state.tasks.get(command.task_id)
    events = decide(task, command, turn.decision_facts())
    assert task is not None
    if events:
        position = turn.record_all(command.task_id, events, _origin(submit))
        turn.place(turn.state.tasks[command.task_id])
        return position, command.task_id
    against = why_not_now(turn, task)
    if against:
        reasons = "; ".join(f"{obstacle.reason}: {obstacle.detail}" for obstacle in against)
        raise CannotStartNow(f"Task {task.id} waits for {reasons}")
    return start(turn, task, _origin(submit)), command.task_id


def _adjust(turn: Turn, submit: Submit, command: AdjustTask) -> tuple[int, int]:
    events = decide(turn.state.tasks.get(command.task_id), command, turn.decision_facts())
    position = turn.record_all(command.task_id, events, _origin(submit))
    turn.place(turn.state.tasks[command.task_id])
    return position, command.task_id


def _cancel(turn: Turn, submit: Submit, command: CancelTask) -> tuple[int, int]:
    state = turn.state
    events = decide(state.tasks.get(command.task_id), command, turn.decision_facts())
    position = turn.record_all(command.task_id, events, _origin(submit))
    turn.unplace(command.task_id)
    running = state.running.get(command.task_id)
    if running is not None:
        turn.stop(running)
    return position, command.task_id


def _retry(turn: Turn, submit: Submit, command: RetryTask) -> tuple[int, int]:
    events = decide(turn.state.tasks.get(command.task_id), command, turn.decision_facts())
    position = turn.record_all(command.task_id, events, _origin(submit))
    turn.state.block(turn.state.tasks[command.task_id])
    turn.place(turn.state.tasks[command.task_id])
    return position, command.task_id
