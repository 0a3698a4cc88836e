"""Commands of people and programs: decide, record, and put the task where it now belongs."""

from ...events import (
    Accepted,
    AdjustTask,
    CancelTask,
    CreateGraph,
    CreateTask,
    EnableEndpoint,
    RedeliverNotice,
    RetryTask,
    SaveCheckpoint,
    StartTask,
    TasktrailError,
)
from ...events.decide import decide
from ...events.errors import CannotStartNow, NeverFits, NotReady
from ...events.graphs import ids_by_name
from ..errors import NothingToChange
from . import notices, operators
from .admission import above_all
from .cancelling import cancel, held_up_by
from .dependencies import enter, that_would_end
from .dispatch import start
from .messages import Intake, Submit
from .turn import Origin, Turn
from .waiting import why_not_now


def handle(turn: Turn, submit: Submit) -> None:
    """Carry out a command, or answer with the reason why not; a refusal changes nothing."""
    command = submit.command
    if isinstance(command, CancelTask):
        publishing = held_up_by(turn.state, command)
        if publishing is not None:
            publishing.deferred.append(submit)
            return
    turn.answer(submit.token, _outcome(turn, submit))


def handle_deferred(turn: Turn, submits: list[Submit]) -> None:
    """Carry out what waited for the end of publishing; a command that was sent twice once, with one answer for both."""
    answers: dict[str, Accepted | TasktrailError] = {}
    for submit in submits:
        command = submit.command
        publishing = held_up_by(turn.state, command) if isinstance(command, CancelTask) else None
        if publishing is not None:  # a cancel with children may have to wait for another one
            publishing.deferred.append(submit)
            continue
        answer = answers.get(command.command_id) or _outcome(turn, submit)
        if command.command_id:
            answers[command.command_id] = answer
        turn.answer(submit.token, answer)


def _outcome(turn: Turn, submit: Submit) -> Accepted | TasktrailError:
    try:
        return _carry_out(turn, submit)
    except TasktrailError as error:
        return error


def _origin(submit: Submit) -> Origin:
    command = submit.command
    return Origin(
        actor=command.actor,
        reason=command.reason,
        command_id=command.command_id,
        correlation_id=command.correlation_id,
        causation_id=f"command:{command.command_id}",
    )


def _carry_out(turn: Turn, submit: Submit) -> Accepted:
    command = submit.command
    match command:
        case CreateTask():
            return _create(turn, submit, command)
        case CreateGraph():
            return _create_graph(turn, submit, command)
        case StartTask():
            position = _start(turn, submit, command)
        case CancelTask():
            position = cancel(turn, command, _origin(submit))
        case RetryTask():
            position = _retry(turn, submit, command)
        case SaveCheckpoint():
            events = decide(turn.state.tasks.get(command.task_id), command, turn.decision_facts())
            position = turn.record_all(command.task_id, events, _origin(submit))
        case AdjustTask():
            position = _adjust(turn, submit, command)
        case RedeliverNotice() | EnableEndpoint():
            position, task_id = notices.carry_out(turn, command, submit.intake, _origin(submit))
            return Accepted(task_id, position, command.command_id)
        case _:
            return Accepted(0, operators.handle(turn, command, submit.intake, _origin(submit)), command.command_id)
    return Accepted(command.task_id, position, command.command_id)


def _create(turn: Turn, submit: Submit, command: CreateTask) -> Accepted:
    _refuse_while_stopping(turn)
    state = turn.state
    intake = submit.intake.corrected(state.correction(command.type))
    events = decide(None, command, turn.decision_facts(intake))
    task_id = state.last_task_id + 1
    _own(turn, task_id)
    turn.record_all(task_id, events, _origin(submit))
    enter(turn, task_id, _origin(submit))
    return Accepted(task_id, state.position, command.command_id)


def _create_graph(turn: Turn, submit: Submit, command: CreateGraph) -> Accepted:
    _refuse_while_stopping(turn)
    state = turn.state
    found = submit.intake.by_name
    types = {task.name: task.type for task in command.tasks}
    corrected = {name: intake.corrected(state.correction(types[name])) for name, intake in found.items()}
    events = decide(None, command, turn.decision_facts(Intake(by_name=corrected)))
    ids = ids_by_name(command, state.last_task_id + 1)
    _own(turn, *ids.values())
    for task_id, event in zip(ids.values(), events, strict=True):
        turn.record(task_id, event, _origin(submit))
    for task_id in ids.values():
        enter(turn, task_id, _origin(submit))
    return Accepted(min(ids.values()), state.position, command.command_id, ids)


def _own(turn: Turn, *task_ids: int) -> None:
    """What a service creates for whoever brought it along, it works on."""
    if turn.state.own is not None:
        turn.state.own.update(task_ids)


def _refuse_while_stopping(turn: Turn) -> None:
    if turn.state.draining:
        raise NotReady("The service is stopping and takes no new tasks")


def _start(turn: Turn, submit: Submit, command: StartTask) -> int:
    task = turn.state.tasks.get(command.task_id)
    events = decide(task, command, turn.decision_facts())
    assert task is not None
    if events:
        position = turn.record_all(command.task_id, events, _origin(submit))
        turn.place(turn.state.tasks[command.task_id])
        return position
    against = why_not_now(turn, task)
    if against:
        reasons = "; ".join(f"{obstacle.reason}: {obstacle.detail}" for obstacle in against)
        remedy = f"`tasktrail why {task.id}` tells what lifts the reasons; when they are gone it starts by itself."
        raise CannotStartNow(f"Task {task.id} waits for {reasons}", remedy=remedy)
    return start(turn, task, _origin(submit))


def _adjust(turn: Turn, submit: Submit, command: AdjustTask) -> int:
    task = turn.state.tasks.get(command.task_id)
    events = decide(task, command, turn.decision_facts())
    wanted = {name: getattr(command, name) for name in ("priority", "scheduled_for", "held")}
    if all(value is None or value == getattr(task, name) for name, value in wanted.items()):
        remedy = f"`tasktrail show {command.task_id}` shows how it is."
        raise NothingToChange(f"Task {command.task_id} is so already", remedy=remedy)
    position = turn.record_all(command.task_id, events, _origin(submit))
    turn.place(turn.state.tasks[command.task_id])
    return position


def _retry(turn: Turn, submit: Submit, command: RetryTask) -> int:
    state = turn.state
    task = state.tasks.get(command.task_id)
    if task is not None and (above := above_all(task.memory_needed, task.temp_needed, state.limits, state.sample)):
        raise NeverFits(f"Task {task.id}: {above}")
    in_the_way = that_would_end(state, task) if task is not None else ()
    events = decide(task, command, turn.decision_facts(ended_dependencies=in_the_way))
    turn.record_all(command.task_id, events, _origin(submit))
    enter(turn, command.task_id, _origin(submit))
    return state.position
