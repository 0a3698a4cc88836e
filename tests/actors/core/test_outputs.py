"""One file has one task that writes it: a second task is refused when it comes, with the id of the first."""

from collections.abc import Callable
from typing import Any

import pytest
from core_harness import Core

from tasktrail.actors.core.messages import Intake, Tick
from tasktrail.events import Accepted, CreateGraph, CreateTask, Failed, GraphTask
from tasktrail.events.commands import AddSchedule
from tasktrail.events.errors import OutputTaken

OUT = "/films/out.mp4"


def ask(core: Core, output: str = OUT, real: str = "", **fields: Any) -> Any:
    return core.ask(CreateTask(type="work", output_file=output, **fields), output_real=real)


def refused(answer: Any, holder: int) -> None:
    assert isinstance(answer, OutputTaken)
    assert answer.message.startswith(f"Task {holder} is not finished and will write ")
    assert str(holder) in answer.message


@pytest.mark.parametrize("held", [True, False])
def test_the_output_of_an_unfinished_task_is_taken_and_nothing_is_recorded_of_the_second(
    core: Core, *, held: bool
) -> None:
    first = core.create(output_file=OUT, held=held)
    head = core.log.head()
    answer = ask(core)
    refused(answer, first)
    assert answer.field == "output_file"
    assert core.log.head() == head
    assert isinstance(ask(core, "/films/other.mp4"), Accepted)
    assert [isinstance(ask(core, ""), Accepted) for _ in range(2)] == [True, True], "no output is not one"


def end(core: Core, task_id: int) -> None:
    core.end(task_id)


def fail(core: Core, task_id: int) -> None:
    core.end(task_id, "failed", error="broken")


def cancel(core: Core, task_id: int) -> None:
    core.cancel(task_id)


@pytest.mark.parametrize("over", [end, fail, cancel])
def test_it_is_free_once_the_task_is_over(core: Core, over: Callable[[Core, int], None]) -> None:
    over(core, core.create(output_file=OUT))
    second = ask(core)
    assert isinstance(second, Accepted)
    refused(ask(core), second.task_id)


def test_a_task_that_waits_for_its_next_attempt_keeps_it(core: Core) -> None:
    task_id = core.create(output_file=OUT, max_retries=1, retry_delay=60.0)
    core.end(task_id, "failed", error="timeout")
    assert core.state.tasks[task_id].status == "retrying"
    refused(ask(core), task_id)


def test_whoever_overwrites_on_purpose_is_taken_and_counts_as_well(core: Core) -> None:
    first = core.create(output_file=OUT)
    second = ask(core, overwrite=True)
    assert isinstance(second, Accepted)
    third = ask(core, overwrite=True)
    assert isinstance(third, Accepted)
    core.cancel(first)
    refused(ask(core), second.task_id)
    core.cancel(third.task_id)
    refused(ask(core), second.task_id)
    core.cancel(second.task_id)
    assert isinstance(ask(core), Accepted)


def test_two_names_of_one_file_are_one(core: Core) -> None:
    first = core.create(output_file=OUT)
    refused(ask(core, "/link/out.mp4", real=OUT), first)
    other = ask(core, "/link/b.mp4", real="/films/b.mp4")
    assert isinstance(other, Accepted)
    refused(ask(core, "/films/b.mp4"), other.task_id)


def test_a_retry_by_hand_is_refused_while_another_task_writes_its_output(core: Core) -> None:
    first = core.create(output_file=OUT, max_retries=5)
    core.cancel(first)
    second = ask(core)
    answer = core.retry(first)
    assert isinstance(answer, OutputTaken)
    assert f"Task {second.task_id} is not finished" in answer.message
    assert "cancel it, then retry this one" in answer.advice
    core.cancel(second.task_id)
    assert isinstance(core.retry(first), Accepted)
    refused(ask(core), first)


def test_the_tasks_of_a_graph_are_looked_at_among_themselves_too(core: Core) -> None:
    def graph(*outputs: str, **more: Any) -> Any:
        tasks = [GraphTask(name=f"t{number}", type="work", output_file=one) for number, one in enumerate(outputs)]
        return core.ask(CreateGraph(tasks=tuple(tasks)), **more)

    answer = graph("/a", "/b", "/a")
    assert isinstance(answer, OutputTaken)
    assert (answer.message, answer.field) == ("Task t2: task t0 will write '/a'", "tasks[2].output_file")
    first = core.create(output_file="/b")
    answer = graph("/a", "/b")
    assert isinstance(answer, OutputTaken)
    assert answer.message == f"Task t1: Task {first} is not finished and will write '/b'"
    named = {"t0": Intake(output_real="/c"), "t1": Intake(output_real="/c")}
    assert isinstance(graph("/x/c", "/y/c", by_name=named), OutputTaken)
    assert isinstance(graph("", "", "/a"), Accepted)


@pytest.mark.parametrize(("user_id", "by"), [(0, "Task 1"), (7, "Task 1"), (8, "Another task")])
def test_a_run_of_a_schedule_whose_output_is_taken_ends_at_once_and_says_why(core: Core, user_id: int, by: str) -> None:
    core.create(output_file="/out/20260101T000100Z", user_id=7)
    made = CreateTask(type="work", output_file="/out/{fire_time}", user_id=user_id)
    core.send(AddSchedule(schedule="often", every=60.0, task=made))
    core.wait(60)
    failed = [event for event in core.tell(Tick()) if isinstance(event, Failed)]
    assert [(event.error_type, event.outcome, event.final) for event in failed] == [
        ("OutputTaken", "not_started", True)
    ]
    assert failed[0].error.startswith(f"{by} is not finished and will write ")
    core.wait(60)
    core.tell(Tick())
    assert core.state.tasks[3].spec.output_file == "/out/20260101T000200Z"


def test_after_a_start_it_is_known_again_and_what_an_old_log_has_twice_is_taken_as_it_is(core: Core) -> None:
    first, twice = (ask(core, overwrite=True).task_id for _ in range(2))
    core.cancel(first)
    core.end(first, "stopped")
    core.retry(first, force=True)  # after the other in memory, but not in a log that is read again
    again = Core(log=core.log)
    assert again.state.outputs.first == core.state.outputs.first == {OUT: first}
    refused(ask(again), first)
    again.cancel(first)
    refused(ask(again), twice)


def test_what_is_known_is_forgotten_with_the_tasks(core: Core) -> None:
    ids = [ask(core, f"/out/{number % 3}", overwrite=True).task_id for number in range(9)]
    for task_id in reversed(ids):
        core.cancel(task_id)
    assert vars(core.state.outputs) == {"first": {}, "_others": {}}
