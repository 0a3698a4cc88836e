"""A cancel that includes the children, and graphs that are created completely or not at all."""

import pytest
from core_harness import Core

from tasktrail.actors.core.messages import Intake
from tasktrail.actors.core.state import Families
from tasktrail.events import Accepted, CancelTask, CreateGraph, CreateTask, GraphTask
from tasktrail.events.errors import IllegalTransition, TasktrailError, UnknownDependency
from tasktrail.events.task_events import Estimated


def cancel(core: Core, task_id: int) -> Accepted | TasktrailError | None:
    return core.ask(CancelTask(task_id=task_id, children=True, command_id="all", reason="enough"))


def statuses(core: Core, *ids: int) -> list[str]:
    return [core.read(task_id).status for task_id in ids]


def test_a_cancel_without_children_leaves_them_alone(core: Core) -> None:
    parent = core.create()
    child = core.create(parent_task_id=parent)
    core.cancel(parent)
    assert statuses(core, parent, child) == ["cancelled", "pending"]


def test_a_cancel_with_children_ends_all_below_in_one_commit(core: Core) -> None:
    parent, other = core.create(), core.create()
    child = core.create(parent_task_id=parent)
    grandchild = core.create(parent_task_id=child)
    answer = cancel(core, parent)
    assert statuses(core, parent, child, grandchild, other) == ["cancelled"] * 3 + ["pending"]
    assert [fact.task_id for fact in core.facts] == [parent, child, grandchild]
    assert {(fact.command_id, fact.reason) for fact in core.facts} == {("all", "enough")}
    first = core.facts[0]
    assert isinstance(answer, Accepted)
    assert {fact.causation_id for fact in core.facts[1:]} == {f"event:{answer.position - 2}"}
    assert first.causation_id == "command:all"
    assert core.stops() == [(parent, 1)]


def test_after_a_restart_the_family_is_still_known(core: Core) -> None:
    parent = core.create()
    child = core.create(parent_task_id=parent)
    core = core.again()
    cancel(core, parent)
    assert statuses(core, parent, child) == ["cancelled", "cancelled"]


def test_children_of_a_parent_that_is_over_can_be_cancelled_too(core: Core) -> None:
    parent = core.create()
    child = core.create(parent_task_id=parent)
    core.end(parent)
    late = core.create(parent_task_id=parent)
    assert isinstance(cancel(core, parent), Accepted)
    assert statuses(core, parent, child, late) == ["completed", "cancelled", "cancelled"]


def test_a_grandchild_is_reached_past_a_child_that_is_over(core: Core) -> None:
    parent = core.create(held=True)
    child = core.create(parent_task_id=parent)
    grandchild = core.create(parent_task_id=child, held=True)
    core.end(child)
    assert list(core.state.families.below(parent)) == [child, grandchild]
    core = core.again()
    assert list(core.state.families.below(parent)) == [child, grandchild]
    cancel(core, parent)
    assert statuses(core, parent, child, grandchild) == ["cancelled", "completed", "cancelled"]


def test_a_retried_grandchild_is_reached_again(core: Core) -> None:
    parent = core.create(held=True)
    child = core.create(parent_task_id=parent)
    grandchild = core.create(parent_task_id=child, held=True, max_retries=1)
    core.cancel(grandchild)
    core.end(child)
    core.retry(grandchild)
    cancel(core, parent)
    assert statuses(core, grandchild) == ["cancelled"]


def test_where_nothing_is_open_the_cancel_is_refused(core: Core) -> None:
    parent = core.create()
    child = core.create(parent_task_id=parent)
    core.end(parent)
    core.end(child)
    assert isinstance(cancel(core, parent), IllegalTransition)


def test_a_child_that_publishes_holds_up_the_whole_cancel(core: Core) -> None:
    parent = core.create(held=True)
    child = core.create(parent_task_id=parent)
    core.want_to_publish(child)
    assert cancel(core, parent) is None
    assert statuses(core, parent, child) == ["pending", "running"]
    core.end(child)
    assert statuses(core, parent, child) == ["cancelled", "completed"]
    assert isinstance(core.answers[list(core.answers)[-1]], Accepted)


def test_a_child_that_depends_on_the_cancelled_parent_is_ended_once(core: Core) -> None:
    parent = core.create()
    child = core.create(parent_task_id=parent, depends_on=(parent,))
    cancel(core, parent)
    assert [type(record.event).__name__ for record in core.log.read_task(child)] == ["Created", "Failed"]


def test_families_leave_no_trace_when_all_are_over(core: Core) -> None:
    parent = core.create()
    child = core.create(parent_task_id=parent)
    core.create(parent_task_id=child)
    cancel(core, parent)
    assert core.state.families.parents == {}
    assert list(core.state.families.below(parent)) == []


def test_a_line_of_ten_thousand_needs_no_recursion() -> None:
    families = Families()
    families.link(10_000, lambda task_id: task_id - 1 or None)
    assert len(list(families.below(1))) == 9_999
    families.unlink(10_000, lambda _task_id: False)
    assert families.parents == {}


def some_graph() -> CreateGraph:
    return CreateGraph(
        command_id="graph",
        tasks=(
            GraphTask(name="last", type="work", depends_on=("left", "right"), parent="all"),
            GraphTask(name="left", type="work", parent="all"),
            GraphTask(name="right", type="work", parent="all"),
            GraphTask(name="all", type="work", held=True),
        ),
    )


def test_a_graph_is_created_in_one_commit_and_runs_by_its_edges(core: Core) -> None:
    answer = core.ask(some_graph())
    assert isinstance(answer, Accepted)
    ids = answer.ids
    assert (answer.task_id, sorted(ids.values())) == (1, [1, 2, 3, 4])
    for name in ("left", "right", "last"):
        assert core.running() == [ids[name]]
        core.end(ids[name])
    assert statuses(core, ids["last"], ids["all"]) == ["completed", "pending"]


def test_a_graph_can_be_cancelled_by_its_parent(core: Core) -> None:
    answer = core.ask(some_graph())
    assert isinstance(answer, Accepted)
    cancel(core, answer.ids["all"])
    assert set(statuses(core, *answer.ids.values())) == {"cancelled", "failed"}


def test_estimates_of_a_graph_belong_to_its_tasks(core: Core) -> None:
    tasks = (GraphTask(name="a", type="work"), GraphTask(name="b", type="work"))
    core.send(CreateGraph(tasks=tasks), by_name={"b": Intake(estimate=Estimated(memory=7))})
    assert [core.read(task_id).spec.estimated_memory for task_id in (1, 2)] == [0, 7]


def test_a_graph_with_one_bad_task_leaves_nothing_behind(core: Core) -> None:
    head = core.log.head()
    answer = core.ask(
        CreateGraph(tasks=(GraphTask(name="a", type="work"), GraphTask(name="b", type="work", depends_on=(99,))))
    )
    assert isinstance(answer, UnknownDependency)
    assert answer.field == "tasks[1].depends_on"
    assert core.log.head() == head
    assert core.state.durable.last_task_id == 0


def test_a_graph_may_hang_on_a_task_that_has_failed_and_ends_as_far_as_it_must(core: Core) -> None:
    over = core.create()
    core.end(over, "failed", error="no such codec")
    answer = core.ask(
        CreateGraph(
            tasks=(
                GraphTask(name="a", type="work", depends_on=(over,)),
                GraphTask(name="b", type="work", depends_on=("a",)),
                GraphTask(name="c", type="work", depends_on=("a",), on_dependency_failure="ignore"),
            )
        )
    )
    assert isinstance(answer, Accepted)
    assert statuses(core, *answer.ids.values()) == ["failed", "failed", "running"]


@pytest.mark.parametrize("field", ["depends_on", "parent_task_id"])
def test_a_task_cannot_refer_to_itself(core: Core, field: str) -> None:
    command = CreateTask(type="work", **{field: (1,) if field == "depends_on" else 1})  # type: ignore[arg-type]
    assert isinstance(core.ask(command), UnknownDependency)
