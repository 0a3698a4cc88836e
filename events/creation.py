"""The creation of tasks: its rules, and the events that record it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from heapq import heapify, heappop, heappush
from operator import attrgetter

from msgspec.structs import replace

from .commands import CreateGraph, CreateTask, GraphTask, TaskFields
from .context import DecisionContext
from .counted import counted
from .errors import CONFLICT, CONTRADICTION, GraphCycle, InvalidValue, OutputTaken, UnknownDependency
from .estimates import recorded
from .recorded import Event
from .system_events import Deduplicated
from .task_events import Created, DependencyPolicies, unique_key

_WORKED_OUT = ("estimated_time", "resumable", "on_dependency_failure", "notify_on", "notify_targets", "preset")
_COPIED = tuple(name for name in TaskFields.__struct_fields__ if name not in _WORKED_OUT)
_values_of = attrgetter(*_COPIED)


def created_event(command: CreateTask, context: DecisionContext) -> tuple[Event, ...]:
    """The one event: `Created`, or `Deduplicated` if an open task has the key. Raises an error that names the field."""
    held_by = context.open_keys.get(unique_key(command.user_id, command.unique))
    if held_by is not None:
        return (Deduplicated(task_id=held_by),)
    for other in (*command.depends_on, *filter(None, (command.parent_task_id,))):
        if not 1 <= other <= context.last_task_id:
            field = "depends_on" if other in command.depends_on else "parent_task_id"
            raise UnknownDependency(f"Task {other} does not exist", field=field)
    _check_deadline(command, context)
    if not command.overwrite:
        check_output(context.output_real or command.output_file, context.outputs)
    depends_on, policies = _edges(command)
    can_resume = context.can_resume
    return (
        Created(
            **dict(zip(_COPIED, _values_of(command), strict=True)),
            estimated_time=command.estimated_time or _expected(context),
            resumable=can_resume if command.resumable is None else command.resumable and can_resume,
            output_real=context.output_real,
            parent_task_id=command.parent_task_id,
            depends_on=depends_on,
            on_dependency_failure=policies,
            notify_on=tuple(dict.fromkeys(command.notify_on)),
            notify_targets=tuple(dict.fromkeys(command.notify_targets)),
            traceparent=command.traceparent,
            **recorded(context.estimate, context.correction),
        ),
    )


def _expected(context: DecisionContext) -> float:
    """The run time that the type estimates, in seconds, corrected by the type's history."""
    seconds = context.estimate.seconds
    return seconds if context.correction is None else seconds * context.correction.seconds


def create_graph(command: CreateGraph, context: DecisionContext) -> tuple[Event, ...]:
    """A `Created` for each new task, in the order of their ids, which follow `last_task_id`. All or nothing.

    Then a `Deduplicated` for each task that exists already.
    """
    events: list[Event] = []
    existing = existing_in(command, context.open_keys)
    writers: dict[str, str] = {}
    """Output → the first of the graph's own tasks that writes it."""
    for number, (name, place, create_one) in enumerate(as_commands(command, context.last_task_id + 1, existing)):
        found = replace(
            context.by_name.get(name, context),
            now=context.now,
            last_task_id=context.last_task_id + number,
            outputs=context.outputs,
        )
        output = found.output_real or create_one.output_file
        depends_on = zip(command.tasks[place].depends_on, create_one.depends_on, strict=True)
        names = {other: task_id for other, task_id in depends_on if isinstance(other, str)}
        try:
            events += (replace(event, dependency_names=names) for event in created_event(create_one, found))
            if writers.setdefault(output, name) != name and output and not create_one.overwrite:
                raise OutputTaken(f"task {writers[output]} will write {output!r}", field="output_file")
        except (UnknownDependency, InvalidValue, OutputTaken) as error:
            error.message, error.field = f"Task {name}: {error.message}", f"tasks[{place}].{error.field}"
            raise
    events += (Deduplicated(task_id=task_id, name=name) for name, task_id in existing.items())
    return tuple(events)


def check_output(output: str, taken: Mapping[str, int]) -> None:
    """Raise `OutputTaken`, naming the other task, if another one will write the output: this one would work in vain."""
    if output and output in taken:
        raise OutputTaken.by(taken[output], repr(output), field="output_file")


def _check_deadline(command: CreateTask, context: DecisionContext) -> None:
    if command.deadline is None:
        return
    if command.deadline <= context.now:
        raise InvalidValue(
            f"The deadline {command.deadline.isoformat(timespec='seconds')} is over already",
            field="deadline",
            status=CONFLICT,
        )
    check_start(command.scheduled_for, command.deadline, field="deadline")


def check_start(scheduled_for: datetime | None, deadline: datetime | None, *, field: str) -> None:
    """Raise `InvalidValue` if a task cannot start before its deadline: it would only wait to fail."""
    if scheduled_for is not None and deadline is not None and deadline < scheduled_for:
        raise InvalidValue(
            "The deadline comes before the time the task is scheduled for", field=field, status=CONTRADICTION
        )


def _edges(command: CreateTask) -> tuple[tuple[int, ...], DependencyPolicies]:
    """Each dependency once, with what its failure means; one policy where all are the same."""
    depends_on, policies = command.depends_on, command.on_dependency_failure
    if not depends_on and isinstance(policies, str):
        return (), "wait"  # without dependencies a policy is not recorded
    if isinstance(policies, str):
        return tuple(dict.fromkeys(depends_on)), policies
    if len(policies) != len(depends_on):
        raise InvalidValue(
            f"{counted(len(policies), 'policy', 'policies')} for "
            f"{counted(len(depends_on), 'dependency', 'dependencies')}: give one, or one for each",
            field="on_dependency_failure",
            status=CONTRADICTION,
        )
    edges = dict(zip(depends_on, policies, strict=True))
    for other, policy in zip(depends_on, policies, strict=True):
        if edges[other] != policy:
            raise InvalidValue(
                f"Task {other} is given two policies", field="on_dependency_failure", status=CONTRADICTION
            )
    same = set(edges.values())
    return tuple(edges), same.pop() if len(same) == 1 else tuple(edges.values()) or "wait"


# --- graphs: the order of their tasks, their ids, and the cycles that are refused; no recursion ---

_SHARED = TaskFields.__struct_fields__
_NONE: Mapping[str, int] = {}


def existing_in(command: CreateGraph, open_keys: Mapping[str, int]) -> dict[str, int]:
    """The tasks that exist already: name → id. Raises `InvalidValue` when two of the graph have the same key."""
    existing: dict[str, int] = {}
    asked: dict[str, str] = {}
    for place, task in enumerate(command.tasks):
        key = unique_key(task.user_id, task.unique)
        if key and asked.setdefault(key, task.name) != task.name:
            text = f"Task {task.name}: task {asked[key]} of the graph has the same key"
            raise InvalidValue(text, field=f"tasks[{place}].unique", status=CONTRADICTION)
        if key in open_keys:
            existing[task.name] = open_keys[key]
    return existing


def ids_by_name(command: CreateGraph, first: int, existing: Mapping[str, int] = _NONE) -> dict[str, int]:
    """The id of each task if the first new one gets `first`. Tasks get lower ids than those that refer to them."""
    names = [command.tasks[place].name for place in _order(command.tasks)]
    new = (name for name in names if name not in existing)
    ids = {**existing, **{name: first + number for number, name in enumerate(new)}}
    return {name: ids[name] for name in names}


def as_commands(
    command: CreateGraph, first: int, existing: Mapping[str, int] = _NONE
) -> Iterator[tuple[str, int, CreateTask]]:
    """For each new task, in order of ids: name, place in the command, and its own command with ids instead of names."""
    ids = ids_by_name(command, first, existing)
    places = {task.name: place for place, task in enumerate(command.tasks)}
    for name in ids:
        if name in existing:
            continue
        task = command.tasks[places[name]]
        parent = ids[task.parent] if isinstance(task.parent, str) else task.parent
        for other in _numbers(task):
            if other >= first:  # the graph's own tasks will get these numbers
                place = places[name]
                field = "depends_on" if other in task.depends_on else "parent"
                raise UnknownDependency(f"Task {name}: task {other} does not exist", field=f"tasks[{place}].{field}")
        create = CreateTask(
            **{field: getattr(task, field) for field in _SHARED},
            parent_task_id=parent,
            depends_on=tuple(ids[other] if isinstance(other, str) else other for other in task.depends_on),
            traceparent=command.traceparent,
        )
        yield name, places[name], create


def _names(task: GraphTask) -> Iterator[str]:
    """The tasks of the graph that have to be created before this one."""
    for other in (*task.depends_on, task.parent):
        if isinstance(other, str):
            yield other


def _numbers(task: GraphTask) -> Iterator[int]:
    for other in (*task.depends_on, task.parent):
        if isinstance(other, int):
            yield other


def _order(tasks: tuple[GraphTask, ...]) -> list[int]:
    """The places in the order of creation: as given, as far as references allow. Raises `GraphCycle`."""
    places = _places_by_name(tasks)
    before = [{places[name] for name in _names(task)} for task in tasks]
    after: list[list[int]] = [[] for _ in tasks]
    for place, earlier in enumerate(before):
        for other in earlier:
            after[other].append(place)
    missing = [len(earlier) for earlier in before]
    ready = [place for place, number in enumerate(missing) if not number]
    heapify(ready)
    order: list[int] = []
    while ready:
        place = heappop(ready)
        order.append(place)
        for later in after[place]:
            missing[later] -= 1
            if not missing[later]:
                heappush(ready, later)
    if len(order) < len(tasks):
        circle = " → ".join(tasks[place].name for place in _cycle(before, missing))
        raise GraphCycle(f"The tasks wait for each other: {circle}", field="tasks")
    return order


def _places_by_name(tasks: tuple[GraphTask, ...]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, task in enumerate(tasks):
        if places.setdefault(task.name, place) != place:
            raise InvalidValue(f"Two tasks are called {task.name}", field=f"tasks[{place}].name", status=CONTRADICTION)
    for place, task in enumerate(tasks):
        for name in _names(task):
            if name not in places:
                field = "parent" if name == task.parent else "depends_on"
                raise UnknownDependency(
                    f"Task {task.name}: there is no task {name} in the graph",
                    field=f"tasks[{place}].{field}",
                    status=CONTRADICTION,
                )
    return places


def _cycle(before: list[set[int]], missing: list[int]) -> list[int]:
    """One cycle among the places that could not be put in order; its first place is repeated at the end."""
    place = next(place for place, number in enumerate(missing) if number)
    path: list[int] = []
    seen: dict[int, int] = {}
    while place not in seen:
        seen[place] = len(path)
        path.append(place)
        place = min(other for other in before[place] if missing[other])
    return [*path[seen[place] :], place]
