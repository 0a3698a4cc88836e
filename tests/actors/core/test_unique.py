"""At most one open task for each user and key: a second request is answered with the existing task."""

from collections.abc import Callable
from typing import Any

import pytest
from core_harness import Core
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core.messages import Tick
from tasktrail.events import Accepted, Created, CreateGraph, CreateTask, GraphTask
from tasktrail.events.commands import AddSchedule
from tasktrail.events.errors import InvalidValue, KeyTaken
from tasktrail.events.system_events import Deduplicated


def ask(core: Core, key: str = "k", **fields: Any) -> Accepted:
    return core.send(CreateTask(type="work", unique=key, command_id="again", **fields))


def test_who_asks_again_gets_the_task_there_is_and_no_second_one_is_made(core: Core) -> None:
    first = ask(core)
    assert not first.existing
    again = ask(core, priority=9, output_file="/elsewhere")
    assert (again.task_id, again.existing, again.command_id) == (first.task_id, True, "again")
    assert [fact.event for fact in core.facts] == [Deduplicated(task_id=first.task_id)]
    assert again.position == core.log.head().position
    assert core.state.durable.last_task_id == first.task_id


@pytest.mark.parametrize("held", [True, False])
def test_it_is_asked_before_all_that_a_new_task_would_be_refused_for(core: Core, *, held: bool) -> None:
    first = ask(core, output_file="/out", held=held)
    assert ask(core, output_file="/out").task_id == first.task_id


def test_users_do_not_see_each_others_keys_and_an_empty_one_is_none(core: Core) -> None:
    tasks = [ask(core, user_id=user).task_id for user in (0, 1, 10)]
    tasks += [ask(core, key="1 k").task_id, ask(core, key="").task_id, ask(core, key="").task_id]
    assert len(set(tasks)) == len(tasks)


def end(core: Core, task_id: int) -> None:
    core.end(task_id)


def fail(core: Core, task_id: int) -> None:
    core.end(task_id, "failed", error="broken")


def cancel(core: Core, task_id: int) -> None:
    core.cancel(task_id)


@pytest.mark.parametrize("over", [end, fail, cancel])
def test_the_key_is_free_once_the_task_is_over(core: Core, over: Callable[[Core, int], None]) -> None:
    first = ask(core)
    over(core, first.task_id)
    second = ask(core)
    assert second.task_id != first.task_id
    assert not second.existing


def test_a_task_keeps_its_key_while_it_waits_for_a_retry(core: Core) -> None:
    first = ask(core, max_retries=1)
    core.end(first.task_id, "failed", error="timeout")
    assert core.state.tasks[first.task_id].status == "retrying"
    assert ask(core).task_id == first.task_id


def test_a_retry_by_hand_is_refused_while_another_one_has_the_key_and_takes_it_otherwise(core: Core) -> None:
    first = ask(core, max_retries=5)
    core.cancel(first.task_id)
    second = ask(core)
    refused = core.retry(first.task_id)
    assert isinstance(refused, KeyTaken)
    assert refused.message == f"Task {second.task_id} is not finished and has the key of task {first.task_id}, 'k'"
    core.cancel(second.task_id)
    assert isinstance(core.retry(first.task_id), Accepted)
    assert ask(core).task_id == first.task_id


def test_the_keys_are_known_after_a_start(core: Core) -> None:
    first, over = ask(core, "a"), ask(core, "b", held=True)
    core.cancel(over.task_id)
    later = core.again()
    assert later.state.durable.open_keys == core.state.durable.open_keys == {"0 a": first.task_id}
    assert ask(later, "a").task_id == first.task_id
    assert not ask(later, "b").existing


def graph(core: Core, *tasks: GraphTask) -> Any:
    return core.ask(CreateGraph(tasks=tasks, command_id="graph"))


def test_a_task_of_a_graph_that_is_there_stands_for_the_one_asked_for(core: Core) -> None:
    shared = ask(core, "model", held=True).task_id
    answer = graph(
        core,
        GraphTask(name="use", type="work", depends_on=("model",)),
        GraphTask(name="model", type="work", unique="model", depends_on=("before",)),
        GraphTask(name="before", type="work"),
    )
    assert answer == Accepted(2, 5, "graph", {"before": 2, "model": shared, "use": 3})
    assert core.state.tasks[3].spec.depends_on == (shared,)
    assert Deduplicated(task_id=shared, name="model") in [fact.event for fact in core.facts]


def test_a_graph_that_is_there_as_a_whole_is_answered_with_its_tasks(core: Core) -> None:
    tasks = [GraphTask(name=name, type="work", unique=name, held=True) for name in "ab"]
    first = graph(core, *tasks)
    again = graph(core, *tasks)
    assert (again.task_id, again.ids, again.existing) == (first.task_id, first.ids, True)
    assert core.state.durable.last_task_id == 2


def test_two_tasks_of_a_graph_cannot_have_one_key(core: Core) -> None:
    answer = graph(core, *(GraphTask(name=name, type="work", unique="k") for name in "ab"))
    assert isinstance(answer, InvalidValue)
    assert (answer.message, answer.field) == ("Task b: task a of the graph has the same key", "tasks[1].unique")
    other_user = GraphTask(name="b", type="work", unique="k", user_id=1)
    assert isinstance(graph(core, GraphTask(name="a", type="work", unique="k"), other_user), Accepted)


def test_a_run_of_a_schedule_makes_no_second_task_and_is_not_made_up_for(core: Core) -> None:
    task = CreateTask(type="work", unique="nightly", held=True)
    assert ask(core, "nightly", held=True).task_id == 1
    core.send(AddSchedule(schedule="often", every=60.0, task=task, missed="all"))
    core.cancel(1)
    core.wait(60)
    assert [type(event) for event in core.tell(Tick())] == [Created]
    core.wait(60)
    assert core.tell(Tick()) == [Deduplicated(task_id=2, schedule="often", fire_time=core.now)]
    core.cancel(2)
    later = core.again()
    assert later.tell(Tick()) == []
    schedule = later.state.durable.schedules.by_name["often"]
    assert (schedule.runs, schedule.done_until) == (1, core.now)
    later.now = core.now
    later.wait(60)
    assert [type(event) for event in later.tell(Tick())] == [Created]


_KEYS = st.sampled_from(["", "a", "b"])
_STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "end", "cancel", "retry", "restart"]), st.integers(1, 8), _KEYS), max_size=30
)


@given(_STEPS)
def test_there_are_never_two_open_tasks_of_one_key(steps: list[tuple[str, int, str]]) -> None:
    core = Core(slots=3)
    for what, number, key in steps:
        match what:
            case "create":
                ask(core, key, user_id=number % 2, max_retries=9)
            case "end" if core.running():
                core.end(core.running()[number % len(core.running())], "completed" if number % 2 else "failed")
            case "cancel":
                core.cancel(number)
            case "retry":
                core.retry(number)
            case "restart":
                core = core.again()
                core.state.workers.slots = 3
        open_tasks = [task for task in core.state.tasks.values() if not task.finished and task.spec.unique]
        keys = {f"{task.spec.user_id} {task.spec.unique}": task.id for task in open_tasks}
        assert len(keys) == len(open_tasks)
        assert core.state.durable.open_keys == keys
