"""New tasks: what their creation must keep to, and what is recorded of it."""

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from .commands import CreateGraph, CreateTask, TaskFields
from .errors import InvalidValue, OutputTaken, UnknownDependency
from .facts import Facts
from .graphs import as_commands
from .recorded import Event
from .task_events import Created, DependencyPolicies

_WORKED_OUT = ("estimated_time", "resumable", "on_dependency_failure", "notify_on", "notify_targets")
_COPIED = tuple(name for name in TaskFields.__struct_fields__ if name not in _WORKED_OUT)


def create(command: CreateTask, facts: Facts) -> tuple[Event, ...]:
    """The one event of a new task. Raises `UnknownDependency` or `InvalidValue`, naming the field."""
    for other in (*command.depends_on, *filter(None, (command.parent_task_id,))):
        if not 1 <= other <= facts.last_task_id:
            field = "depends_on" if other in command.depends_on else "parent_task_id"
            raise UnknownDependency(f"Task {other} does not exist", field=field)
    _check_deadline(command, facts)
    if not command.overwrite:
        check_output(facts.output_real or command.output_file, facts.outputs)
    depends_on, policies = _edges(command)
    can_resume = facts.can_resume
    return (
        Created(
            **{name: getattr(command, name) for name in _COPIED},
            estimated_time=command.estimated_time or facts.estimated_time,
            resumable=can_resume if command.resumable is None else command.resumable and can_resume,
            output_real=facts.output_real,
            parent_task_id=command.parent_task_id,
            depends_on=depends_on,
            on_dependency_failure=policies,
            notify_on=tuple(dict.fromkeys(command.notify_on)),
            notify_targets=tuple(dict.fromkeys(command.notify_targets)),
            estimated_memory=facts.estimated_memory,
            estimated_temp=facts.estimated_temp,
            guessed_memory=facts.guessed_memory,
            guessed_temp=facts.guessed_temp,
            guessed_time=facts.guessed_time,
            estimate_basis=facts.estimate_basis,
        ),
    )


def create_graph(command: CreateGraph, facts: Facts) -> tuple[Event, ...]:
    """A `Created` for each task, in the order of their ids, which follow `last_task_id`. All or nothing."""
    events: list[Event] = []
    writers: dict[str, str] = {}
    """Output → the first of the graph's own tasks that writes it."""
    for number, (name, place, create_one) in enumerate(as_commands(command, facts.last_task_id + 1)):
        found = replace(
            facts.by_name.get(name, facts),
            now=facts.now,
            last_task_id=facts.last_task_id + number,
            outputs=facts.outputs,
        )
        output = found.output_real or create_one.output_file
        try:
            events += create(create_one, found)
            if writers.setdefault(output, name) != name and output and not create_one.overwrite:
                raise OutputTaken(f"task {writers[output]} will write {output!r}", field="output_file")
        except (UnknownDependency, InvalidValue, OutputTaken) as error:
            raise type(error)(f"Task {name}: {error.message}", field=f"tasks[{place}].{error.field}") from error
    return tuple(events)


def check_output(output: str, taken: Mapping[str, int]) -> None:
    """Two tasks that write one file: the second would work in vain. Raises `OutputTaken`, which names the first."""
    if output and output in taken:
        raise OutputTaken(f"Task {taken[output]} is not finished and will write {output!r}", field="output_file")


def _check_deadline(command: CreateTask, facts: Facts) -> None:
    if command.deadline is None:
        return
    if command.deadline <= facts.now:
        raise InvalidValue(
            f"The deadline {command.deadline.isoformat(timespec='seconds')} is over already", field="deadline"
        )
    check_start(command.scheduled_for, command.deadline, field="deadline")


def check_start(scheduled_for: datetime | None, deadline: datetime | None, *, field: str) -> None:
    """What cannot start before its deadline would only wait to fail. Raises `InvalidValue`."""
    if scheduled_for is not None and deadline is not None and deadline < scheduled_for:
        raise InvalidValue("The deadline comes before the time the task is scheduled for", field=field)


def _edges(command: CreateTask) -> tuple[tuple[int, ...], DependencyPolicies]:
    """Each dependency once, with what its failure means; one policy where all are the same."""
    depends_on, policies = command.depends_on, command.on_dependency_failure
    if not depends_on and isinstance(policies, str):
        return (), "wait"  # what holds for no edge is not recorded
    if isinstance(policies, str):
        return tuple(dict.fromkeys(depends_on)), policies
    if len(policies) != len(depends_on):
        raise InvalidValue(
            f"{len(policies)} policies for {len(depends_on)} dependencies: give one, or one for each",
            field="on_dependency_failure",
        )
    edges = dict(zip(depends_on, policies, strict=True))
    for other, policy in zip(depends_on, policies, strict=True):
        if edges[other] != policy:
            raise InvalidValue(f"Task {other} is given two policies", field="on_dependency_failure")
    same = set(edges.values())
    return tuple(edges), same.pop() if len(same) == 1 else tuple(edges.values()) or "wait"
