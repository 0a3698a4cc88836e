"""Tasks that name each other: the order of their creation, and the refusals."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Created, CreateGraph, GraphTask
from tasktrail.events.context import DecisionContext
from tasktrail.events.creation import ids_by_name
from tasktrail.events.decide import decide
from tasktrail.events.errors import GraphCycle, InvalidValue, UnknownDependency

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def graph(*tasks: tuple[str, Any], **fields: Any) -> CreateGraph:
    """Make a graph of names and their dependencies."""
    return CreateGraph(tasks=tuple(GraphTask(name=name, type="t", depends_on=on, **fields) for name, on in tasks))


def created(command: CreateGraph, last: int = 0) -> dict[int, Created]:
    events = decide(None, command, DecisionContext(now=NOW, last_task_id=last))
    assert all(isinstance(event, Created) for event in events)
    return dict(enumerate(events, last + 1))  # type: ignore[arg-type]  # see the line before


@st.composite
def acyclic(draw: st.DrawFn) -> CreateGraph:
    """Draw any graph without a circle, its tasks in any order, now and then with a parent."""
    number = draw(st.integers(1, 12))
    tasks = []
    for place in range(number):
        earlier = [f"n{other}" for other in range(place)]
        on = draw(st.lists(st.sampled_from(earlier), max_size=4)) if earlier else []
        parent = draw(st.none() | st.sampled_from(earlier)) if earlier else None
        tasks.append(GraphTask(name=f"n{place}", type="t", depends_on=tuple(on), parent=parent))
    return CreateGraph(tasks=tuple(draw(st.permutations(tasks))))


@given(acyclic(), st.integers(0, 5))
def test_every_task_is_created_after_those_it_refers_to(command: CreateGraph, last: int) -> None:
    ids = ids_by_name(command, last + 1)
    events = created(command, last)
    assert sorted(ids.values()) == list(events)
    for task in command.tasks:
        event = events[ids[task.name]]
        assert set(event.depends_on) == {ids[str(other)] for other in task.depends_on}
        assert event.parent_task_id == (ids[str(task.parent)] if task.parent else None)
        assert all(other < ids[task.name] for other in (*event.depends_on, event.parent_task_id or 0))


@given(acyclic())
def test_a_graph_that_needs_no_other_order_keeps_its_own(command: CreateGraph) -> None:
    in_order = CreateGraph(tasks=tuple(sorted(command.tasks, key=lambda task: int(task.name[1:]))))
    assert list(ids_by_name(in_order, 1)) == [task.name for task in in_order.tasks]


@given(acyclic(), st.data())
def test_a_circle_is_refused_and_named(command: CreateGraph, data: st.DataObject) -> None:
    """One more edge, from any task to itself or to one that already comes after it."""
    order = list(ids_by_name(command, 1))
    later = data.draw(st.sampled_from(order))
    earlier = data.draw(st.sampled_from(sorted(_before(command, later))))
    tasks = tuple(
        GraphTask(name=task.name, type="t", parent=task.parent, depends_on=(*task.depends_on, later))
        if task.name == earlier
        else task
        for task in command.tasks
    )
    with pytest.raises(GraphCycle) as refusal:
        decide(None, CreateGraph(tasks=tasks), DecisionContext(now=NOW))
    names = refusal.value.message.split(": ")[1].split(" → ")
    assert names[0] == names[-1]
    by_name = {task.name: task for task in tasks}
    for waits, waited in pairwise(names):
        assert waited in (*by_name[waits].depends_on, by_name[waits].parent)


def _before(command: CreateGraph, name: str) -> set[str]:
    """Return the task and everything that it needs."""
    by_name = {task.name: task for task in command.tasks}
    found, todo = set(), [name]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += [str(other) for other in (*by_name[one].depends_on, by_name[one].parent) if other]
    return found


def test_a_chain_of_ten_thousand_needs_no_recursion() -> None:
    names = [f"n{place}" for place in range(10_000)]
    tasks = [(name, (before,) if before else ()) for name, before in zip(names, [None, *names], strict=False)]
    command = graph(*reversed(tasks))
    assert list(ids_by_name(command, 1)) == names
    with pytest.raises(GraphCycle):
        ids_by_name(graph(("n0", (names[-1],)), *tasks[1:]), 1)


def test_names_and_ids_of_existing_tasks_mix() -> None:
    events = created(graph(("b", ("a", 2)), ("a", (1,))), last=3)
    assert [event.depends_on for event in events.values()] == [(1,), (4, 2)]


@pytest.mark.parametrize("on", [("nobody",), (4,), (5,), (9,)])
def test_what_does_not_exist_is_refused_even_if_it_is_about_to(on: tuple[Any, ...]) -> None:
    with pytest.raises(UnknownDependency) as refusal:
        created(graph(("a", ()), ("b", on)), last=3)
    assert refusal.value.field == "tasks[1].depends_on"


def test_a_parent_by_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownDependency) as refusal:
        created(graph(("a", ()), parent="nobody"))
    assert refusal.value.field == "tasks[0].parent"


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidValue) as refusal:
        created(graph(("a", ()), ("b", ()), ("a", ())))
    assert refusal.value.field == "tasks[2].name"


def test_what_is_wrong_with_one_task_is_told_with_its_place() -> None:
    with pytest.raises(InvalidValue) as refusal:
        created(graph(("a", ()), deadline=NOW))
    assert refusal.value.field == "tasks[0].deadline"


def test_each_edge_of_a_graph_may_have_its_policy() -> None:
    events = created(graph(("a", ()), ("b", ()), ("c", ("a", "b")), on_dependency_failure="ignore"))
    assert events[3].on_dependency_failure == "ignore"
    tasks = (*graph(("a", ()), ("b", ())).tasks,)
    both = GraphTask(name="c", type="t", depends_on=("b", "a"), on_dependency_failure=("wait", "cancel"))
    event = created(CreateGraph(tasks=(*tasks, both)))[3]
    assert (event.depends_on, event.on_dependency_failure) == ((2, 1), ("wait", "cancel"))
