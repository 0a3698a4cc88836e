"""`--spread`: several tasks make one film, and are shown as one."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasktrail.cli.spread import parts_of
from tasktrail.events import CreateGraph, CreateTask, Started
from tasktrail.events.reports import AttemptEnded, AttemptProgressed


def start(tasks: Any, *ids: int) -> None:
    for task_id in ids:
        tasks.journal.record(task_id, Started())


def report(tasks: Any, task_id: int, progress: float) -> None:
    tasks.later()
    tasks.journal.send(AttemptProgressed(task_id=task_id, attempt=1, progress=progress, message="at work"))


def end(tasks: Any, *ids: int, outcome: Any = "completed", **more: Any) -> None:
    tasks.later()
    for task_id in ids:
        tasks.journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome=outcome, **more))


RUN = ("run", "video_convert", "in.mp4", "out.mp4", "--spread", "2")


def test_a_film_and_its_parts_are_shown_as_one_task(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.script += [
        partial(start, tasks, 1, 2),
        partial(report, tasks, 1, 50.0),
        partial(end, tasks, 1),
        partial(end, tasks, 2),
        partial(start, tasks, 3),
        partial(report, tasks, 3, 50.0),
        partial(end, tasks, 3),
    ]
    shown = cli(*RUN)
    assert shown.code == 0
    assert shown.out.startswith("task 3 completed in ")
    assert shown.err.splitlines() == [
        "task 3 video_convert 0.0 % waiting",
        "task 3 video_convert 0.0 % parts: 1 0.0 %, 2 0.0 %",
        "task 3 video_convert 22.5 % parts: 1 50.0 %, 2 0.0 %",
        "task 3 video_convert 45.0 % parts: 1 done, 2 0.0 %",
        "task 3 video_convert 90.0 % parts: 1 done, 2 done",
        "task 3 video_convert 100 % completed after 2.00 s",
    ]


def test_the_same_again_goes_on_with_the_parts(cli: Callable[..., Any], tasks: Any, environment: Any) -> None:
    cli("submit", *RUN[1:])
    environment.running, environment.inside = None, tasks
    tasks.script += [partial(start, tasks, 1, 2), partial(end, tasks, 1, 2), partial(start, tasks, 3)]
    tasks.script += [partial(end, tasks, 3)]
    shown = cli(*RUN)
    assert shown.code == 0
    assert "going on with task 3" in shown.err
    assert [type(sent) for sent in tasks.sent] == [CreateGraph]
    assert tasks.taken_on == [1, 2, 3]


def test_a_part_that_fails_is_named_with_what_to_do(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.script += [
        partial(start, tasks, 1, 2),
        partial(end, tasks, 2, outcome="failed", error="no such codec"),
        partial(tasks.cancel_task, 3),
    ]
    shown = cli(*RUN)
    assert shown.code == 1
    assert "  part 2 of 2 is task 2: no such codec\n  `tasktrail retry 2 3` makes these again" in shown.err


def test_a_second_ctrl_c_cancels_the_parts_too(cli: Callable[..., Any], tasks: Any) -> None:
    def press() -> None:
        signal.raise_signal(signal.SIGINT)

    def twice() -> None:
        press()
        press()

    tasks.script += [partial(start, tasks, 1), twice]
    cli(*RUN)
    assert [tasks.get_task(task_id).status for task_id in (1, 2, 3)] == ["cancelled"] * 3


@pytest.mark.parametrize("command", ["run", "submit"])
def test_what_cannot_be_spread_is_one_task_and_why_is_said(cli: Callable[..., Any], tasks: Any, command: str) -> None:
    tasks.script += [partial(start, tasks, 1), partial(end, tasks, 1)]
    shown = cli(command, "video_convert", "in", "out.mp4", "-o", "video_codec=copy", "--spread", "3")
    assert shown.code == 0
    assert "one task converts it: the picture is copied, not encoded" in shown.err
    assert [type(sent) for sent in tasks.sent] == [CreateTask]


def test_submit_prints_the_tasks_by_name(cli: Callable[..., Any], tasks: Any) -> None:
    shown = cli("submit", *RUN[1:], "--priority", "3")
    assert shown.out == "part-1: 1\npart-2: 2\nfilm: 3\n"
    assert tasks.get_task(3).depends_on == (1, 2)
    assert Path(tasks.get_task(1).output_file).name == "out.mp4.part-1-of-2.tasktrail"


@pytest.mark.parametrize("number", ["0", "101", "-1", "two", "²", "9" * 5000])
def test_a_number_of_parts_that_cannot_be_is_wrong_usage(cli: Callable[..., Any], number: str) -> None:
    shown = cli(*RUN[:-1], number)
    assert shown.code == 2
    assert "is not a number of parts: give 1 to 100, or auto" in shown.err


def test_only_a_film_is_spread(cli: Callable[..., Any]) -> None:
    shown = cli("run", "noop", "in", "out", "--spread", "2")
    assert shown.code == 1
    assert "noop cannot be spread over nodes, only video_convert can" in shown.err


@pytest.mark.parametrize("other", [("--graph", "g.json"), ("--from", "c.jsonl")])
def test_whole_tasks_are_not_spread(cli: Callable[..., Any], other: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / other[1]).write_text("[]")
    assert cli("submit", other[0], str(tmp_path / other[1]), "--spread", "2").code == 2


def test_held_parts_begin_with_the_same_run(cli: Callable[..., Any], tasks: Any) -> None:
    cli("submit", *RUN[1:], "--held")
    assert [tasks.get_task(task_id).held for task_id in (1, 2, 3)] == [True, True, False]
    tasks.script += [partial(start, tasks, 1, 2), partial(end, tasks, 1, 2), partial(start, tasks, 3)]
    tasks.script += [partial(end, tasks, 3)]
    assert cli(*RUN).code == 0


def test_the_same_run_for_the_same_time_waits_again(cli: Callable[..., Any], tasks: Any) -> None:
    at = ("--scheduled-for", "2031-01-01T00:00:00Z")
    cli("submit", *RUN[1:], *at)
    other = cli(*RUN, "--scheduled-for", "2032-01-01T00:00:00Z")
    assert other.code == 1
    assert "`tasktrail adjust 1 --scheduled-for` changes it (and that of 2)" in other.err
    tasks.script += [partial(tasks.cancel_task, task_id) for task_id in (3, 2, 1)]
    shown = cli(*RUN, *at)
    assert "going on with task 3" in shown.err
    assert "not taken over" not in shown.err


def own_task(tasks: Any, kind: str, **fields: Any) -> None:
    """Create a task that waits for others and is not a film that was spread."""
    others = [tasks.create_task("noop", "in.mp4", f"/f/{number}") for number in (1, 2)]
    tasks.create_task(kind, "/f/in.mp4", "/f/out.mp4", depends_on=others, **fields)


@pytest.mark.parametrize("parts", ["all", 2, None, -1, [1]])
@pytest.mark.parametrize("kind", ["noop", "video_convert"])
def test_an_option_parts_of_another_task_says_nothing(tasks: Any, kind: str, parts: Any) -> None:
    own_task(tasks, kind, options={"parts": parts})
    assert parts_of(tasks, tasks.get_task(3)) == []


def test_a_batch_is_cancelled_from_its_last_task_on(cli: Callable[..., Any], tasks: Any) -> None:
    cli("submit", *RUN[1:], "--batch", "mine")
    assert cli("cancel", "--batch", "mine", "--yes").code == 0
    assert [tasks.get_task(task_id).status for task_id in (1, 2, 3)] == ["cancelled"] * 3
    assert [sent.task_id for sent in tasks.sent[1:]] == [3, 2, 1]
