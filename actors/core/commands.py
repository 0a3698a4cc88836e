"""Carries out commands: decides what each means, records it, and puts the task where it now belongs.

Commands of operators and commands about notices are recorded on the system stream, so they hold over restarts.
"""

from collections.abc import Iterator
from datetime import UTC
from typing import assert_never

from msgspec.structs import asdict, replace

from ...events import (
    Accepted,
    AdjustTask,
    CancelTask,
    Created,
    CreateGraph,
    CreateTask,
    EnableEndpoint,
    Event,
    OperatorCommand,
    RedeliverNotice,
    RetryTask,
    SaveCheckpoint,
    StartTask,
    TasktrailError,
)
from ...events.commands import (
    AddSchedule,
    AddSource,
    AddToken,
    DrainNode,
    DrainQueue,
    EraseUser,
    NoticeCommand,
    PauseQueue,
    PauseSource,
    RemoveSchedule,
    RemoveSource,
    ResumeQueue,
    ResumeSource,
    RevokeToken,
    SetLimits,
    UndrainNode,
)
from ...events.creation import ids_by_name
from ...events.decide import decide
from ...events.errors import (
    CONTRADICTION,
    CannotStartNow,
    EndpointDisabled,
    Erased,
    InvalidValue,
    NeverFits,
    NothingToChange,
    NotReady,
    OutputTaken,
    ScheduleExists,
    UnknownEndpoint,
    UnknownSchedule,
)
from ...events.system_events import (
    Deduplicated,
    EndpointEnabled,
    LimitsChanged,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    ScheduleAdded,
    ScheduleRemoved,
    SystemEvent,
)
from ...projections.errors import UnknownNotice
from .dependencies import ended, ending_dependencies, enter
from .dispatch import start_now
from .erasure import erased_user, is_erased_task
from .explanation import why_not_now
from .limits import Pause
from .messages import Intake, Submit
from .node_changes import change_drain
from .owners import hide_foreign_task, is_of, refuse_foreign_tasks
from .resources import why_it_never_fits
from .schedules import FIRE_TIME, check_schedule, is_same_schedule, same_times
from .sources import changed_source
from .state import Running, SchedulerState
from .tokens import added_token, revoked_token
from .unit_of_work import BY_SCHEDULER, Origin, UnitOfWork


def handle(work: UnitOfWork, submit: Submit) -> None:
    """Carry out a command, or answer with the reason why not; a refusal changes nothing."""
    command = submit.command
    if isinstance(command, CancelTask):
        publishing = held_up_by(work.state, command)
        if publishing is not None:
            publishing.deferred.append(submit)
            return
    work.answer(submit.token, _outcome(work, submit))


def handle_deferred(work: UnitOfWork, submits: list[Submit]) -> None:
    """Carry out the commands that waited for the end of publishing. One that was sent twice is carried out once."""
    answers: dict[str, Accepted | TasktrailError] = {}
    for submit in submits:
        command = submit.command
        publishing = held_up_by(work.state, command) if isinstance(command, CancelTask) else None
        if publishing is not None:  # a cancel with children may have to wait for another one
            publishing.deferred.append(submit)
            continue
        answer = answers.get(command.command_id) or _outcome(work, submit)
        if command.command_id:
            answers[command.command_id] = answer
        work.answer(submit.token, answer)


def _outcome(work: UnitOfWork, submit: Submit) -> Accepted | TasktrailError:
    try:
        return _carry_out(work, submit)
    except OutputTaken as error:
        return hide_foreign_task(work.state, error, submit.only_user)
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


def _carry_out(work: UnitOfWork, submit: Submit) -> Accepted:
    command = submit.command
    refuse_foreign_tasks(work.state, command, submit.only_user)
    match command:
        case CreateTask():
            return _create(work, submit, command)
        case CreateGraph():
            return _create_graph(work, submit, command)
        case StartTask():
            position = _start(work, submit, command)
        case CancelTask():
            position = cancel_tasks(work, command, _origin(submit), submit.only_user)
        case RetryTask():
            position = _retry(work, submit, command)
        case SaveCheckpoint():
            events = decide(work.state.tasks.get(command.task_id), command, work.decision_context())
            position = work.record_all(command.task_id, events, _origin(submit))
        case AdjustTask():
            position = _adjust(work, submit, command)
        case RedeliverNotice() | EnableEndpoint():
            position, task_id = carry_out_notice(work, command, submit.intake, _origin(submit))
            return Accepted(task_id, position, command.command_id)
        case _:
            return Accepted(0, carry_out_operator(work, command, submit.intake, _origin(submit)), command.command_id)
    return Accepted(command.task_id, position, command.command_id)


def _create(work: UnitOfWork, submit: Submit, command: CreateTask) -> Accepted:
    _refuse_while_stopping(work)
    state = work.state
    context = work.decision_context(submit.intake, correction=state.correction(command.type))
    events = decide(None, command, context)
    if isinstance(events[0], Deduplicated):
        return _existing(work, events, _origin(submit))
    task_id = state.durable.last_task_id + 1
    _add_to_own(work, task_id)
    work.record_all(task_id, events, _origin(submit))
    enter(work, task_id, _origin(submit))
    return Accepted(task_id, state.position, command.command_id)


def _existing(work: UnitOfWork, events: tuple[Event, ...], origin: Origin) -> Accepted:
    """Answer that tasks exist already. It records this, because the answer and its repetition rely on the record."""
    ids: dict[str, int] = {}
    for event in events:
        assert isinstance(event, Deduplicated)
        ids[event.name] = event.task_id
        _add_to_own(work, event.task_id)
        work.record(0, event, origin)
        if work.state.own is not None and work.state.tasks[event.task_id].waiting:
            work.place(work.state.tasks[event.task_id])
    first = next(iter(ids.values()))
    ids.pop("", None)
    return Accepted(first, work.state.position, origin.command_id, ids, existing=True)


def _create_graph(work: UnitOfWork, submit: Submit, command: CreateGraph) -> Accepted:
    _refuse_while_stopping(work)
    state = work.state
    intakes = submit.intake.by_name
    types = {task.name: task.type for task in command.tasks}
    by_name = {
        name: work.decision_context(intake, correction=state.correction(types[name]))
        for name, intake in intakes.items()
    }
    events = decide(None, command, replace(work.decision_context(), by_name=by_name))
    new = tuple(event for event in events if isinstance(event, Created))
    existing = events[len(new) :]
    first = state.durable.last_task_id + 1
    for task_id, event in enumerate(new, first):
        _add_to_own(work, task_id)
        work.record(task_id, event, _origin(submit))
    for task_id in range(first, first + len(new)):
        enter(work, task_id, _origin(submit))
    answer = _existing(work, existing, _origin(submit)) if existing else Accepted(first, state.position, "")
    ids = ids_by_name(command, first, answer.ids)
    return Accepted(first if new else answer.task_id, state.position, command.command_id, ids, existing=not new)


def _add_to_own(work: UnitOfWork, *task_ids: int) -> None:
    """Have a service that leaves other tasks as they are work on these, which are created through it."""
    if work.state.own is not None:
        work.state.own.update(task_ids)


def _refuse_while_stopping(work: UnitOfWork) -> None:
    if work.state.draining:
        raise NotReady("The service is stopping and takes no new tasks")


def _start(work: UnitOfWork, submit: Submit, command: StartTask) -> int:
    task = work.state.tasks.get(command.task_id)
    events = decide(task, command, work.decision_context())
    assert task is not None
    if events:
        position = work.record_all(command.task_id, events, _origin(submit))
        work.place(work.state.tasks[command.task_id])
        return position
    against = why_not_now(work, task)
    if against:
        reasons = "; ".join(f"{obstacle.reason}: {obstacle.detail}" for obstacle in against)
        remedy = f"`tasktrail why {task.id}` shows what lifts the reasons; once they are gone, it starts by itself."
        raise CannotStartNow(f"Task {task.id} waits for {reasons}", remedy=remedy)
    return start_now(work, task, _origin(submit))


def _adjust(work: UnitOfWork, submit: Submit, command: AdjustTask) -> int:
    task = work.state.tasks.get(command.task_id)
    events = decide(task, command, work.decision_context())
    changes = {name: getattr(command, name) for name in ("priority", "scheduled_for", "held")}
    if all(value is None or value == getattr(task, name) for name, value in changes.items()):
        remedy = f"`tasktrail show {command.task_id}` shows its present values."
        raise NothingToChange(f"Task {command.task_id} has these values already", remedy=remedy)
    position = work.record_all(command.task_id, events, _origin(submit))
    work.place(work.state.tasks[command.task_id])
    return position


def _retry(work: UnitOfWork, submit: Submit, command: RetryTask) -> int:
    state = work.state
    task = state.tasks.get(command.task_id)
    if task is not None and (
        above := why_it_never_fits(task.memory_needed, task.temp_needed, state.limits, state.sample)
    ):
        raise NeverFits(f"Task {task.id}: {above}")
    if task is not None and is_erased_task(state, task):
        raise Erased(f"What task {task.id} worked on has been erased", field="task_id")
    in_the_way = ending_dependencies(state, task) if task is not None else ()
    events = decide(task, command, work.decision_context(ended_dependencies=in_the_way))
    work.record_all(command.task_id, events, _origin(submit))
    enter(work, command.task_id, _origin(submit))
    return state.position


def held_up_by(state: SchedulerState, command: CancelTask) -> Running | None:
    """An attempt to be cancelled that may be publishing: the cancel has to wait until that is over."""
    for task_id in (command.task_id, *_open_descendants(state, command)):
        running = state.running.get(task_id)
        if running is not None and running.publishing:
            return running
    return None


def cancel_tasks(work: UnitOfWork, command: CancelTask, origin: Origin, only_user: int | None = None) -> int:
    """Cancel a task and, if the command says so, all tasks below it. Returns the position of the last event.

    The children are cancelled even if their parent has ended.
    """
    state = work.state
    below = [task_id for task_id in _open_descendants(state, command) if is_of(state, task_id, only_user)]
    task = state.tasks.get(command.task_id)
    if not below or (task is not None and not task.finished):
        events = decide(task, command, work.decision_context())
        position = work.record_all(command.task_id, events, origin)
        _stop_and_end(work, command.task_id, origin)
        origin = replace(origin, causation_id=f"event:{position}")
    for task_id in below:
        if not state.tasks[task_id].finished:  # the end of another task may have ended it already
            work.record_all(task_id, decide(state.tasks[task_id], command, work.decision_context()), origin)
            _stop_and_end(work, task_id, origin)
    return state.position


def _stop_and_end(work: UnitOfWork, task_id: int, origin: Origin) -> None:
    running = work.state.running.get(task_id)
    if running is not None:
        work.stop(running)
    ended(work, task_id, origin)


def _open_descendants(state: SchedulerState, command: CancelTask) -> Iterator[int]:
    if command.children:
        for task_id in state.families.below(command.task_id):
            if task_id in state.tasks and not state.tasks[task_id].finished:
                yield task_id


_NOT_RECORDED = frozenset({"command_id", "actor", "reason", "correlation_id"})


def carry_out_operator(work: UnitOfWork, command: OperatorCommand, intake: Intake, origin: Origin) -> int:
    """Carry out an operator's command. Returns the position of the record. A refusal raises and changes nothing."""
    event: SystemEvent
    match command:
        case SetLimits():
            event = _limits(work, command)
        case PauseQueue():
            event = _pause(work, QueuePaused(type=command.type, user_id=command.user_id))
        case DrainQueue():
            event = _pause(work, QueuePaused(drain=True))
        case ResumeQueue():
            event = _resume(work, command)
        case AddSchedule():
            event = schedule_added(work, command, intake)
        case RemoveSchedule():
            event = removed(work, command)
        case AddToken():
            event = added_token(work.state.durable.tokens, command, work.now)
        case RevokeToken():
            event = revoked_token(work.state.durable.tokens, command)
        case EraseUser():
            event = erased_user(work.state, command, intake.belongings)
        case DrainNode() | UndrainNode():
            return change_drain(work, command, origin)
        case AddSource() | RemoveSource() | PauseSource() | ResumeSource():
            event = changed_source(work.state.durable.sources, command)
        case _:
            assert_never(command)
    position = work.record(0, event, origin)
    if isinstance(event, LimitsChanged | QueuePaused | QueueResumed):
        work.look_again()
    return position


def note_drained(work: UnitOfWork) -> None:
    """Record, only once, that a drain has reached its end."""
    pause = work.state.durable.pauses.everything
    if pause is not None and pause.drain and not pause.drained and not work.state.running:
        work.record(0, QueueDrained(), Origin(actor=BY_SCHEDULER.actor, causation_id=f"event:{pause.position}"))


def _limits(work: UnitOfWork, command: SetLimits) -> LimitsChanged:
    change = LimitsChanged(**{name: value for name, value in asdict(command).items() if name not in _NOT_RECORDED})
    if change == LimitsChanged():
        raise NothingToChange("The command names no limit to change")
    changes = work.state.durable.limit_changes
    if changes.with_another(change) == changes.merged:
        raise NothingToChange("The limits have these values already")
    return change


def _pause(work: UnitOfWork, event: QueuePaused) -> QueuePaused:
    held = _pause_about(work, event)
    if held is not None and (held.drain or not event.drain):
        raise NothingToChange(f"{_scope_text(event)} is paused already, since position {held.position}")
    return event


def _resume(work: UnitOfWork, command: ResumeQueue) -> QueueResumed:
    event = QueueResumed(type=command.type, user_id=command.user_id)
    if _pause_about(work, event) is None:
        raise NothingToChange(f"{_scope_text(event)} is not paused")
    return event


def _pause_about(work: UnitOfWork, event: QueuePaused | QueueResumed) -> Pause | None:
    if event.type is not None and event.user_id is not None:
        raise NothingToChange(
            "A pause is for a type or a user, not for both", field="user_id", remedy="Send two commands."
        )
    return work.state.durable.pauses.about(event)


def _scope_text(event: QueuePaused | QueueResumed) -> str:
    if event.type is not None:
        return f"Type {event.type}"
    return "The queue" if event.user_id is None else f"User {event.user_id}"


def schedule_added(work: UnitOfWork, command: AddSchedule, intake: Intake) -> ScheduleAdded:
    """The event for a new or changed schedule."""
    existing = work.state.durable.schedules.by_name.get(command.schedule)
    if existing is not None and not command.replace:
        raise ScheduleExists(f"There is a schedule {command.schedule} already", field="schedule")
    for field in _ALONE:
        if getattr(command.task, field):
            raise InvalidValue(f"The task of a schedule cannot have {field}", field=f"task.{field}")
    if command.task.output_file and FIRE_TIME not in command.task.output_file and not command.task.overwrite:
        raise InvalidValue(
            "Every run after the first would find its output already there",
            field="task.output_file",
            remedy=f"Put {FIRE_TIME} into the name of the output, or set `overwrite` (CLI: --overwrite).",
            status=CONTRADICTION,
        )
    # Each run checks by itself whether its key is free.
    (task,) = decide(None, command.task, replace(work.decision_context(intake), open_keys={}))
    assert isinstance(task, Created)
    event = ScheduleAdded(
        schedule=command.schedule,
        task=task,
        cron=command.cron.strip(),
        every=command.every,
        timezone=command.timezone,
        starting_at=(command.starting_at or work.now).astimezone(UTC),
        missed=command.missed,
        max_missed=command.max_missed,
        added_at=work.now if work.stands_still else None,
    )
    if existing is not None and command.starting_at is None and same_times(event, existing.spec):
        event = replace(event, starting_at=existing.spec.starting_at)
    check_schedule(event)
    if existing is not None and is_same_schedule(event, existing.spec):
        raise NothingToChange(
            f"The schedule {command.schedule} has these values already",
            field="schedule",
            remedy="`tasktrail schedule list` shows the schedules.",
        )
    return event


def removed(work: UnitOfWork, command: RemoveSchedule) -> ScheduleRemoved:
    """The event for the end of a schedule."""
    if command.schedule not in work.state.durable.schedules.by_name:
        raise UnknownSchedule(f"There is no schedule {command.schedule}", field="schedule")
    return ScheduleRemoved(schedule=command.schedule)


_ALONE = ("depends_on", "parent_task_id", "scheduled_for", "deadline")


def carry_out_notice(work: UnitOfWork, command: NoticeCommand, intake: Intake, origin: Origin) -> tuple[int, int]:
    """Record a command about notices, for the Notifier. Returns (position, task id); the id is 0 for an endpoint."""
    match command:
        case RedeliverNotice():
            redelivery = intake.redelivery
            if redelivery is None:
                raise UnknownNotice(f"Task {command.task_id} has no notice {command.notice_id}", field="notice_id")
            if redelivery.target in work.state.durable.disabled:
                raise EndpointDisabled(f"{redelivery.target} has answered that it is gone", field="notice_id")
            return work.record(0, redelivery, origin), command.task_id
        case EnableEndpoint():
            if command.target not in work.state.durable.disabled:
                raise UnknownEndpoint(f"{command.target} is not disabled", field="target")
            return work.record(0, EndpointEnabled(target=command.target), origin), 0
