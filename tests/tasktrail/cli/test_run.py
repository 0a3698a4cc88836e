"""`run`: one task to its end, here or in the service; Ctrl-C; resuming."""

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasktrail.actors.core.explanation import Obstacle, WaitReason, Why
from tasktrail.cli import progress
from tasktrail.cli.run import SECOND_CTRL_C
from tasktrail.events import CreateTask, Started
from tasktrail.events.errors import ServiceUnreachable
from tasktrail.events.reports import AttemptEnded, AttemptProgressed
from tasktrail.projections import TaskFilters


def start(tasks: Any, task_id: int = 1) -> None:
    tasks.journal.record(task_id, Started())


def report(tasks: Any, progress: float, message: str, task_id: int = 1) -> None:
    attempt = tasks.get_task(task_id).attempt
    tasks.journal.send(AttemptProgressed(task_id=task_id, attempt=attempt, progress=progress, message=message))


def end(tasks: Any, task_id: int = 1, outcome: Any = "completed", **more: Any) -> None:
    tasks.later()
    attempt = tasks.get_task(task_id).attempt
    tasks.journal.send(AttemptEnded(task_id=task_id, attempt=attempt, outcome=outcome, **more))


@pytest.fixture
def to_the_end(tasks: Any) -> None:
    """Act as the service on the next task."""
    tasks.script += [
        partial(start, tasks),
        partial(report, tasks, 41.0, "frame 41"),
        partial(report, tasks, 42.0, "frame 42"),
        partial(end, tasks, result={"size": 12}),
    ]


@pytest.fixture
def inside(environment: Any, tasks: Any) -> None:
    """Without a running service, the command brings its own."""
    environment.running, environment.inside = None, tasks


@pytest.mark.usefixtures("to_the_end")
def test_the_progress_goes_to_stderr_and_the_result_to_stdout(cli: Callable[..., Any], tasks: Any) -> None:
    shown = cli("run", "noop", "in", "out")
    assert shown.code == 0
    assert shown.out == f"task 1 completed in 1.00 s\n  output  {Path('out').absolute()}\n  size    12\n"
    assert shown.err.splitlines() == [
        "task 1 noop 0.0 % waiting",
        "task 1 noop 0.0 % running",
        "task 1 noop 41.0 % frame 41",
        "task 1 noop 100 % completed after 1.00 s",
    ]
    assert tasks.closed


@pytest.mark.usefixtures("to_the_end")
def test_as_json_the_result_is_the_task(cli: Callable[..., Any]) -> None:
    task = json.loads(cli("run", "noop", "--json").out)
    assert (task["id"], task["status"], task["result"]) == (1, "completed", {"size": 12})


def test_a_task_that_fails_is_told_with_what_to_do(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.script += [partial(start, tasks), partial(end, tasks, outcome="failed", error="no such\x1b[31m codec")]
    shown = cli("run", "noop")
    assert (shown.code, shown.out) == (1, "")
    assert "task 1 failed: no such\\x1b[31m codec\n  `tasktrail history 1`" in shown.err


@pytest.mark.usefixtures("inside")
def test_a_refusal_is_told_and_the_service_inside_is_closed(cli: Callable[..., Any], tasks: Any) -> None:
    shown = cli("run", "noop", "--depends-on", "9")
    assert shown.code == 1
    assert "Task 9 does not exist" in shown.err
    assert tasks.closed


@pytest.mark.usefixtures("inside", "to_the_end")
def test_with_no_service_running_the_command_brings_its_own(cli: Callable[..., Any], tasks: Any) -> None:
    assert cli("run", "noop").code == 0
    assert tasks.closed


@pytest.mark.usefixtures("inside")
def test_a_service_that_is_named_must_be_there(cli: Callable[..., Any]) -> None:
    assert cli("run", "noop", "--url", "http://localhost:1").code == 3


def unfinished(tasks: Any, **fields: Any) -> Any:
    wanted = {"type": "noop", "input_file": str(Path("in").absolute()), "options": {"a": 1}, **fields}
    return tasks.get_task(tasks.create_task(**wanted))


def test_the_same_again_goes_on_with_the_unfinished_task(cli: Callable[..., Any], tasks: Any) -> None:
    there = unfinished(tasks)
    tasks.script += [partial(start, tasks), partial(end, tasks)]
    shown = cli("run", "noop", "in", "-o", "a=1", "--priority", "3")
    assert shown.code == 0
    assert "going on with task 1 at 0.0 %" in shown.err
    assert [type(sent) for sent in tasks.sent] == [CreateTask]
    assert there.id == 1


@pytest.mark.usefixtures("inside")
def test_inside_this_process_it_works_on_that_task_alone(cli: Callable[..., Any], tasks: Any) -> None:
    unfinished(tasks, options={"a": 2})
    unfinished(tasks)
    tasks.script += [partial(start, tasks, 2), partial(end, tasks, 2)]
    assert cli("run", "noop", "in", "-o", "a=1").code == 0
    assert tasks.taken_on == [2]


@pytest.mark.usefixtures("inside")
def test_inside_this_process_it_does_not_wait_for_tasks_that_nobody_works_on(
    cli: Callable[..., Any], tasks: Any
) -> None:
    unfinished(tasks)
    refused = cli("run", "noop", "--depends-on", "1", "--json")
    assert (refused.code, json.loads(refused.err)["code"]) == (1, "cannot_start_now")
    assert "task 1, which is pending" in json.loads(refused.err)["detail"]
    assert len(tasks.sent) == 1
    tasks.cancel_task(1)
    assert cli("run", "noop", "--depends-on", "1", "--on-dependency-failure", "wait").code == 1
    tasks.script += [partial(start, tasks, 2), partial(end, tasks, 2)]
    assert cli("run", "noop", "--depends-on", "1", "--on-dependency-failure", "ignore").code == 0


@pytest.mark.parametrize("line", ["run noop", "run noop in -o a=2", "run other in -o a=1", "run noop in out -o a=1"])
def test_another_type_path_or_option_makes_another_task(cli: Callable[..., Any], tasks: Any, line: str) -> None:
    unfinished(tasks)
    tasks.script += [partial(start, tasks, 2), partial(end, tasks, 2)]
    assert cli(*line.split()).code == 0
    assert len(tasks.sent) == 2


def test_a_task_that_has_ended_is_not_taken_up(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.cancel_task(unfinished(tasks).id)
    tasks.script += [partial(start, tasks, 2), partial(end, tasks, 2)]
    assert cli("run", "noop", "in", "-o", "a=1").code == 0


def test_the_unfinished_task_is_found_among_many(cli: Callable[..., Any], tasks: Any) -> None:
    for number in range(600):
        tasks.create_task(type="noop", options={"number": number})
    tasks.script += [partial(start, tasks, 555), partial(end, tasks, 555)]
    assert cli("run", "noop", "-o", "number=554").code == 0
    assert len(tasks.sent) == 600


@pytest.mark.parametrize("name", ["film-554.mp4", "a b/Fêtes 54.mp4", "東京/-"])
def test_among_many_it_is_found_by_the_words_of_its_file(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = str(Path(name).absolute())
    for number in range(600):
        tasks.create_task(type="noop", input_file=f"/in/{number}.mp4", output_file=f"/out/{number}.mp4")
    tasks.create_task(type="noop", input_file="/in", output_file=path)
    asked: list[TaskFilters] = []
    listed = tasks.list_tasks

    def counted(filters: TaskFilters) -> Any:
        asked.append(filters)
        return listed(filters)

    monkeypatch.setattr(tasks, "list_tasks", counted)
    tasks.script += [partial(start, tasks, 601), partial(end, tasks, 601)]
    shown = cli("run", "noop", "/in", name)
    assert (shown.code, "going on with task 601 at 0.0 %" in shown.err) == (0, True)
    assert len(asked) == 1


def test_what_cannot_be_searched_for_is_looked_for_page_by_page(cli: Callable[..., Any], tasks: Any) -> None:
    path = "/" + "ö" * 200 + "/-" * 500
    tasks.create_task(type="noop", input_file=path)
    tasks.script += [partial(start, tasks), partial(end, tasks)]
    shown = cli("run", "noop", path)
    assert (shown.code, "going on with task 1 at 0.0 %" in shown.err) == (0, True)


def test_the_unfinished_task_is_found_where_others_end_meanwhile(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that leaves the list moves the later ones forward, onto a page that was already read."""
    for number in range(600):
        tasks.create_task(type="noop", options={"number": number})
    asked, leaving = tasks.list_tasks, iter(range(1, 600))

    def one_ends(filters: TaskFilters) -> Any:
        page = asked(filters)
        tasks.cancel_task(next(leaving))
        return page

    monkeypatch.setattr(tasks, "list_tasks", one_ends)
    tasks.script += [partial(start, tasks, 501), partial(end, tasks, 501)]
    shown = cli("run", "noop", "-o", "number=500")
    assert shown.code == 0
    assert "going on with task 501 at 0.0 %" in shown.err


def test_a_held_task_is_released_when_it_is_run_again(cli: Callable[..., Any], tasks: Any) -> None:
    unfinished(tasks, held=True)
    tasks.script += [partial(start, tasks), partial(end, tasks)]
    assert cli("run", "noop", "in", "-o", "a=1").code == 0
    assert not tasks.get_task(1).held


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def press_twice() -> None:
    press()
    press()


@pytest.mark.usefixtures("inside")
def test_the_first_ctrl_c_interrupts_the_service_inside(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.cli.run.SECOND_CTRL_C", 0.01)
    tasks.script += [partial(start, tasks), press]
    shown = cli("run", "noop")
    assert (shown.code, shown.out) == (130, "")
    assert "Ctrl-C again cancels it" in shown.err
    assert "the same command again goes on with it" in shown.err
    assert tasks.closed
    assert tasks.get_task(1).status == "running"


@pytest.mark.usefixtures("inside")
def test_sigterm_interrupts_without_asking_again(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.script += [partial(start, tasks), partial(press, signal.SIGTERM)]
    shown = cli("run", "noop")
    assert shown.code == 130
    assert "Ctrl-C" not in shown.err
    assert tasks.closed


def test_after_a_ctrl_c_the_task_goes_on_in_the_service(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.cli.run.SECOND_CTRL_C", 0.01)
    tasks.script += [partial(start, tasks), press]
    shown = cli("run", "noop")
    assert shown.code == 130
    assert "goes on in the service; `tasktrail watch 1`" in shown.err
    assert tasks.get_task(1).status == "running"


def test_a_second_ctrl_c_cancels(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.script += [partial(start, tasks), press_twice]
    shown = cli("run", "noop")
    assert SECOND_CTRL_C >= 1
    assert shown.code == 1
    assert tasks.get_task(1).status == "cancelled"
    assert tasks.sent[-1].reason == "second Ctrl-C"


@pytest.mark.usefixtures("to_the_end")
def test_a_service_that_is_away_for_a_moment_is_waited_for(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOOK_EVERY", 0.01)
    look, away = tasks.get_task, iter([False, True, True])

    def flaky(task_id: int) -> Any:
        if next(away, False):
            raise ServiceUnreachable("It restarts")
        return look(task_id)

    monkeypatch.setattr(tasks, "get_task", flaky)
    shown = cli("run", "noop")
    assert shown.code == 0
    assert shown.err.count("the service does not answer; waiting for it") == 1


def test_a_service_that_stays_away_ends_the_wait(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)

    def away(_task_id: int) -> None:
        raise ServiceUnreachable("It is gone")

    monkeypatch.setattr(tasks, "get_task", away)
    shown = cli("run", "noop")
    assert shown.code == 3
    assert "It is gone" in shown.err


def test_a_task_for_later_can_be_run_too(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.script += [partial(start, tasks), partial(end, tasks)]
    assert cli("run", "noop", "--scheduled-for", "2026-08-01T00:00:00Z").code == 0
    assert tasks.sent[0].scheduled_for == datetime(2026, 8, 1, tzinfo=UTC)


@pytest.mark.parametrize("where", ["running", "inside"])
def test_a_held_task_cannot_be_run_to_its_end(
    cli: Callable[..., Any], environment: Any, tasks: Any, where: str
) -> None:
    if where == "inside":
        environment.running, environment.inside = None, tasks
    refused = cli("run", "noop", "--held", "--json")
    assert refused.code == 1
    problem = json.loads(refused.err)
    assert (problem["code"], problem["field"]) == ("cannot_start_now", "held")
    assert "tasktrail submit --held" in problem["remedy"]
    assert tasks.sent == []


@pytest.mark.usefixtures("inside")
def test_a_task_for_later_tells_until_when_it_waits_and_not_that_it_goes_on(
    cli: Callable[..., Any], tasks: Any
) -> None:
    tasks.script += [partial(press, signal.SIGTERM)]
    shown = cli("run", "noop", "--scheduled-for", "2200-01-02T03:04:05Z")
    assert shown.code == 130
    assert "task 1 noop 0.0 % waits until 2200-01-02 03:04:05Z" in shown.err
    assert "has not begun and waits until 2200-01-02 03:04:05Z" in shown.err
    assert "goes on with it" not in shown.err
    assert "is interrupted" not in shown.err


@pytest.mark.usefixtures("inside")
def test_a_time_that_has_come_is_not_waited_for(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.script += [partial(press, signal.SIGTERM)]
    shown = cli("run", "noop", "--scheduled-for", "2020-01-02T03:04:05Z", "--worker-label", "gpu")
    assert shown.code == 130
    assert "waits until" not in shown.err
    assert "task 1 has not begun; the same command without that time waits again, or `tasktrail serve`" in shown.err


@pytest.mark.usefixtures("inside")
def test_a_task_that_has_not_begun_tells_what_it_waits_for(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = Obstacle(WaitReason.WORKER_LABEL, "no worker offers gpu", "a start of the service with gpu=1")
    soon = Obstacle(WaitReason.MEMORY, "memory is short")
    why = Why(task_id=1, status="pending", waiting=True, reasons=(nobody, soon))
    monkeypatch.setattr(tasks, "why", lambda _task_id: why, raising=False)
    tasks.script += [partial(press, signal.SIGTERM)]
    shown = cli("run", "noop", "--worker-label", "gpu")
    assert shown.code == 130
    assert "task 1 waits: no worker offers gpu; lifted by a start of the service with gpu=1\n" in shown.err
    assert "memory" not in shown.err
    assert "task 1 has not begun; the same command waits again, or `tasktrail serve`" in shown.err


def test_what_the_unfinished_task_does_not_take_over_is_told(cli: Callable[..., Any], tasks: Any) -> None:
    unfinished(tasks, max_retries=2)
    tasks.script += [partial(start, tasks), partial(end, tasks)]
    shown = cli("run", "noop", "in", "-o", "a=1", "--priority", "3", "--max-retries", "2", "--no-resume")
    assert shown.code == 0
    told = " ".join(shown.err.split())
    assert "not applied: --priority (here 3, there 0)" in told
    assert "--max-retries" not in told
    assert "`tasktrail adjust 1`" in told


def test_an_unfinished_task_is_not_run_at_another_time_than_is_asked_for(cli: Callable[..., Any], tasks: Any) -> None:
    unfinished(tasks)
    refused = cli("run", "noop", "in", "-o", "a=1", "--scheduled-for", "2200-01-02T03:04:05Z")
    assert refused.code == 1
    told = " ".join(refused.err.split())
    assert "Task 1 is the same, unfinished, and has no time" in told
    assert "`tasktrail adjust 1 --scheduled-for`" in told
