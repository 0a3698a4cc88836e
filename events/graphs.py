"""Several tasks in one command: their order, their ids, and the cycles that are refused. Pure, and no recursion."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from .commands import CreateGraph, CreateTask, GraphTask, TaskFields
from .errors import GraphCycle, InvalidValue, UnknownDependency

_SHARED = TaskFields.__struct_fields__


def ids_by_name(command: CreateGraph, first: int) -> dict[str, int]:
    """The id of each task when the first one gets `first`. Whoever must come earlier gets the lower one."""
    return {command.tasks[place].name: first + number for number, place in enumerate(_order(command.tasks))}


def as_commands(command: CreateGraph, first: int) -> Iterator[tuple[str, int, CreateTask]]:
    """(name, place in the command, the single command with ids in place of names), in the order of ids."""
    ids = ids_by_name(command, first)
    places = {task.name: place for place, task in enumerate(command.tasks)}
    for name in ids:
        task = command.tasks[places[name]]
        parent = ids[task.parent] if isinstance(task.parent, str) else task.parent
        for other in _numbers(task):
            if other >= first:  # it would silently mean one of the graph's own
                place = places[name]
                field = "depends_on" if other in task.depends_on else "parent"
                raise UnknownDependency(f"Task {name}: task {other} does not exist", field=f"tasks[{place}].{field}")
        create = CreateTask(
            **{field: getattr(task, field) for field in _SHARED},
            parent_task_id=parent,
            depends_on=tuple(ids[other] if isinstance(other, str) else other for other in task.depends_on),
        )
        yield name, places[name], create


def _names(task: GraphTask) -> Iterator[str]:
    """The tasks of the graph that must have been created before."""
    for other in (*task.depends_on, task.parent):
        if isinstance(other, str):
            yield other


def _numbers(task: GraphTask) -> Iterator[int]:
    for other in (*task.depends_on, task.parent):
        if isinstance(other, int):
            yield other


def _order(tasks: tuple[GraphTask, ...]) -> list[int]:
    """Places in the order of creation: as given, as far as references allow. Raises `GraphCycle`."""
    places = _places(tasks)
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


def _places(tasks: tuple[GraphTask, ...]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, task in enumerate(tasks):
        if places.setdefault(task.name, place) != place:
            raise InvalidValue(f"Two tasks are called {task.name}", field=f"tasks[{place}].name")
    for place, task in enumerate(tasks):
        for name in _names(task):
            if name not in places:
                field = "parent" if name == task.parent else "depends_on"
                raise UnknownDependency(
                    f"Task {task.name}: there is no task {name} in the graph", field=f"tasks[{place}].{field}"
                )
    return places


def _cycle(before: list[set[int]], missing: list[int]) -> list[int]:
    """One circle among the places that could not be put in order, the first again at its end."""
    place = next(place for place, number in enumerate(missing) if number)
    path: list[int] = []
    seen: dict[int, int] = {}
    while place not in seen:
        seen[place] = len(path)
        path.append(place)
        place = min(other for other in before[place] if missing[other])
    return [*path[seen[place] :], place]
