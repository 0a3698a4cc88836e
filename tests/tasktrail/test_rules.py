"""Dependencies, graphs, families, retries and limits as an integrator sees them, with real worker processes."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasktrail import TaskFilters, TaskService
from tasktrail.events import CreateGraph, GraphTask
from tasktrail.events.errors import CommandIdReused, GraphCycle, InvalidValue, OutputExists, RetriesExhausted
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.retry import RetryRule
from tasktrail.projections.verification import verify

WITHIN = 20.0


def test_a_graph_runs_in_its_order_and_its_ids_are_known_by_name(service: TaskService) -> None:
    ids = service.create_graph(
        [
            {"name": "last", "type": "echo", "depends_on": ["first"], "parent": "all"},
            {"name": "first", "type": "echo", "parent": "all"},
            {"name": "all", "type": "echo", "held": True},
        ],
        reason="a test",
    )
    assert service.wait(ids["last"], timeout=WITHIN).status == "completed"
    children = service.get_task(ids["all"]).children
    assert children is not None
    assert (children.total, children.progress, children.by_status) == (2, 100.0, {"completed": 2})
    assert {service.events(task_id)[0].reason for task_id in ids.values()} == {"a test"}


def test_the_log_verifies_after_commands_that_are_about_many_tasks(service: TaskService) -> None:
    ids = service.create_graph(
        [
            {"name": "all", "type": "noop", "held": True},
            {"name": "part", "type": "noop", "held": True, "parent": "all"},
            {"name": "below", "type": "noop", "held": True, "parent": "part"},
            {"name": "behind", "type": "noop", "depends_on": ["part"], "on_dependency_failure": "cancel"},
        ]
    )
    service.cancel_task(ids["all"])
    service.cancel_task(ids["all"], children=True)  # has ended itself: the events are about the tasks below it
    assert {service.get_task(task_id).status for task_id in ids.values()} == {"cancelled"}
    assert service.verify().findings == ()


def test_an_answer_that_names_a_relative_of_its_task_is_found(service: TaskService, tmp_path: Path) -> None:
    """Records of one command may be about many tasks; its answer is about one, and `verify` knows which."""
    path = tmp_path / "data" / "log.db"
    ids = service.create_graph(
        [
            {"name": "top", "type": "noop", "held": True},
            {"name": "over", "type": "noop", "held": True, "parent": "top"},
            {"name": "child", "type": "noop", "held": True, "parent": "over"},
            {"name": "behind", "type": "noop", "depends_on": ["child"], "on_dependency_failure": "cancel"},
        ],
        command_id="graph",
    )
    top, over, child, behind = (ids[name] for name in ("top", "over", "child", "behind"))
    other = service.create_task(type="noop", parent_task_id=top, held=True, command_id="create")
    service.adjust_task(other, priority=7, command_id="adjust")
    service.cancel_task(over)
    service.cancel_task(over, children=True, command_id="cancel")  # leads to the ends of `child` and `behind`
    service.cancel_task(top)
    service.pause(command_id="pause")
    assert service.verify().findings == ()
    service.close()
    right = {"graph": top, "create": other, "adjust": other, "cancel": over, "pause": 0}
    wrong = [("graph", over), ("graph", behind), ("create", top), ("create", over), ("adjust", 0), ("adjust", top)]
    wrong += [("cancel", one) for one in (top, child, behind, other, 0)] + [("pause", one) for one in (1, -1)]
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for command_id, task_id in wrong:
            conn.execute("UPDATE answers SET task_id = ? WHERE command_id = ?", (task_id, command_id))
            with closing(SqliteLogReader(path)) as reader:
                messages = [finding.message for finding in verify(reader).findings]
            assert messages == [f"the answer to {command_id} names task {task_id}, not the event's"]
            conn.execute("UPDATE answers SET task_id = ? WHERE command_id = ?", (right[command_id], command_id))


def test_a_graph_that_is_sent_again_gets_the_same_ids(service: TaskService) -> None:
    graph: list[dict[str, Any]] = [{"name": "b", "type": "noop", "depends_on": ["a"]}, {"name": "a", "type": "noop"}]
    first = service.create_graph(graph, command_id="once")
    assert service.create_graph(graph, command_id="once") == first
    with pytest.raises(CommandIdReused):
        service.create_graph(graph[1:], command_id="once")


@pytest.mark.parametrize(
    ("tasks", "error", "field"),
    [
        ([{"name": "a", "type": "noop", "depends_on": ["a"]}], GraphCycle, "tasks"),
        ([{"name": "a", "type": "noop", "priority": 11}], InvalidValue, "tasks[0].priority"),
        ([{"name": "3", "type": "noop"}], InvalidValue, "tasks[0].name"),
        ([], InvalidValue, "tasks"),
    ],
)
def test_a_graph_with_a_fault_is_refused_as_a_whole(
    service: TaskService, tasks: list[dict[str, object]], error: type[Exception], field: str
) -> None:
    with pytest.raises(error) as refusal:
        service.create_graph(tasks)
    assert getattr(refusal.value, "field", None) == field
    assert service.list_tasks()[1] == 0


def test_values_of_a_graph_built_in_python_are_checked_too(service: TaskService) -> None:
    with pytest.raises(InvalidValue) as refusal:
        service.send(CreateGraph(tasks=(GraphTask(name="a", type="noop", max_retries=-1),)))
    assert refusal.value.field == "tasks[0].max_retries"


def test_a_path_at_fault_is_told_with_its_task(service: TaskService, tmp_path: Path) -> None:
    output = tmp_path / "there"
    output.touch()
    with pytest.raises(OutputExists) as refusal:
        service.create_graph([{"name": "a", "type": "write", "output_file": str(output)}])
    assert refusal.value.field == "tasks[0].output_file"
    assert refusal.value.message.startswith("Task a: ")


def test_a_cancel_takes_the_children_along(service: TaskService) -> None:
    parent = service.create_task(type="noop", held=True)
    child = service.create_task(type="patient", parent_task_id=parent)
    service.cancel_task(parent, children=True)
    assert service.wait(child, timeout=WITHIN).status == "cancelled"


def test_a_failure_reaches_those_behind_it(service: TaskService) -> None:
    one = service.create_task(type="raise")
    two = service.create_task(type="noop", depends_on=[one])
    task = service.wait(two, timeout=WITHIN)
    assert (task.status, task.error_type) == ("failed", "DependencyFailed")


def test_all_failed_tasks_of_a_type_are_retried_with_a_reason_for_each_refusal(service: TaskService) -> None:
    may = service.create_task(type="raise", max_retries=1, retry_delay=0.0)
    may_not = service.create_task(type="raise", max_retries=0)
    other = service.create_task(type="echo", depends_on=[may_not])
    for task_id in (may, may_not, other):
        assert service.wait(task_id, timeout=WITHIN).status == "failed"
    result = service.retry_tasks(TaskFilters(type="raise"), reason="mended")
    assert result.retried == (may,)
    assert list(result.refused) == [may_not]
    assert isinstance(result.refused[may_not], RetriesExhausted)
    assert service.wait(may, timeout=WITHIN).life == 2


@pytest.mark.parametrize("filters", [TaskFilters(status="completed"), TaskFilters(as_of=1)])
def test_what_cannot_be_retried_is_not_looked_for(service: TaskService, filters: TaskFilters) -> None:
    with pytest.raises(InvalidValue):
        service.retry_tasks(filters)


@pytest.mark.parametrize("field", ["status", "type", "label", "batch", "search"])
def test_a_filter_that_names_nothing_chooses_nothing_to_retry(service: TaskService, field: str) -> None:
    """As that of a variable nobody has set: without a refusal, every failed task would get another life."""
    failed = service.create_task(type="raise", max_retries=3, retry_delay=0.0)
    assert service.wait(failed, timeout=WITHIN).life == 1
    for given in (" ", *([] if field == "search" else ["", ",", (" ",)])):
        with pytest.raises(InvalidValue, match=f"^{field} is given, but names nothing"):
            service.retry_tasks(TaskFilters(**{field: given}))  # type: ignore[arg-type]  # of the field's type
    assert service.get_task(failed).life == 1


def test_a_rule_of_ones_own_decides_and_is_recorded(open_service: Callable[..., TaskService]) -> None:
    rules = (RetryRule("never again", retryable=False, exit_code=7),)
    service = open_service(retry_rules=rules)
    task = service.wait(service.create_task(type="die", options={"shape": "exit"}), timeout=WITHIN)
    (failed,) = [record.event for record in service.events(task.id) if type(record.event).__name__ == "Failed"]
    assert (failed.rule, failed.exit_code, task.attempt) == ("never again", 7, 1)  # type: ignore[union-attr]


def test_a_worker_that_is_stopped_is_found_by_its_silence(service: TaskService) -> None:
    task = service.wait(service.create_task(type="hang", heartbeat_timeout=0.5, max_retries=0), timeout=WITHIN)
    assert (task.status, task.error_type) == ("failed", "HeartbeatTimeout")
    assert task.error.startswith("heartbeat_timeout: ")


@pytest.mark.slow
def test_a_worker_is_heard_while_it_hashes_the_input_of_an_attempt_in_a_sandbox(
    open_service: Callable[..., TaskService], tmp_path: Path
) -> None:
    """The attempt's own process, which sent the heartbeats so far, is gone by then."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    service = open_service(sandbox="auto", handlers=("away_handlers",))
    limits: dict[str, Any] = {"heartbeat_timeout": 0.5, "max_retries": 0}
    task_id = service.create_task(type="glancer", input_file=tmp_path / "large", **limits)
    assert service.wait(task_id, timeout=WITHIN).status == "completed"


def test_a_handler_that_says_nothing_is_alive_and_stands_still(service: TaskService) -> None:
    task_id = service.create_task(type="patient", heartbeat_timeout=0.6, no_progress_timeout=1.5, max_retries=0)
    assert service.wait(task_id, timeout=WITHIN).error_type == "NoProgressTimeout"
