"""`watch`, and how progress looks on a terminal and elsewhere."""

import io
import json
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from tasktrail.actors.core.explanation import Obstacle, WaitReason, Why
from tasktrail.cli import watch
from tasktrail.cli.batch import _FirstWaiting
from tasktrail.cli.progress import IN_THE_HEADLINE, STAYING, Bars, Lines, Poller
from tasktrail.cli.watch import Watch, _expected
from tasktrail.events import Checkpoint, Started
from tasktrail.events.errors import ServiceUnreachable
from tasktrail.events.reports import AttemptEnded, AttemptProgressed


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Set what happens between two looks of `watch`."""
    todo: list[Callable[[], object]] = []
    look = Watch.look

    def stepping(self: Watch) -> bool:
        more = look(self)
        if more and todo:
            todo.pop(0)()
        return more

    monkeypatch.setattr(Watch, "look", stepping)
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.001)
    return todo


def start(tasks: Any, task_id: int) -> None:
    tasks.journal.record(task_id, Started())


def end(tasks: Any, task_id: int, outcome: Any = "completed") -> None:
    tasks.journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome=outcome, error="broken"))


def test_the_named_tasks_are_watched_until_all_have_ended(cli: Callable[..., Any], tasks: Any, steps: Any) -> None:
    one, two = tasks.create_task(type="noop"), tasks.create_task(type="noop")
    tasks.create_task(type="noop")
    steps += [
        partial(start, tasks, one),
        partial(end, tasks, one),
        partial(start, tasks, two),
        partial(end, tasks, two),
    ]
    shown = cli("watch", str(one), str(two))
    assert shown.code == 0
    assert shown.out.splitlines() == [
        "task 1 noop 0.0 % waiting",
        "task 2 noop 0.0 % waiting",
        "task 1 noop 0.0 % running",
        "task 1 noop 100 % completed",
        "task 2 noop 0.0 % running",
        "task 2 noop 100 % completed",
    ]


def test_a_task_that_failed_makes_the_exit_code_1(cli: Callable[..., Any], tasks: Any, steps: Any) -> None:
    task_id = tasks.create_task(type="noop")
    start(tasks, task_id)
    steps.append(partial(end, tasks, task_id, "failed"))
    shown = cli("watch", str(task_id))
    assert shown.code == 1
    assert "failed: broken" in shown.out


def test_without_ids_all_unfinished_tasks_are_watched_newcomers_too(
    cli: Callable[..., Any], tasks: Any, steps: Any
) -> None:
    tasks.cancel_task(tasks.create_task(type="noop"))
    tasks.create_task(type="noop")
    steps += [
        partial(start, tasks, 2),
        partial(tasks.create_task, type="noop"),
        partial(end, tasks, 2),
        partial(start, tasks, 3),
        partial(end, tasks, 3),
    ]
    shown = cli("watch")
    assert shown.code == 0
    assert "task 1 " not in shown.out
    assert shown.out.endswith("task 3 noop 100 % completed\n")


def test_with_nothing_to_watch_it_says_so(cli: Callable[..., Any]) -> None:
    assert cli("watch") == (0, "", "nothing runs or waits\n")


def test_an_unknown_task_is_refused(cli: Callable[..., Any]) -> None:
    shown = cli("watch", "7")
    assert shown.code == 1
    assert "Task 7 does not exist" in shown.err


def test_with_no_service_it_shows_what_is_there_and_that_nothing_moves(
    cli: Callable[..., Any], tasks: Any, environment: Any
) -> None:
    environment.running, environment.inside = None, tasks
    tasks.create_task(type="noop")
    shown = cli("watch", "1")
    assert shown.code == 3
    assert shown.out == "task 1 noop 0.0 % waiting\n"
    assert "nothing moves" in shown.err
    tasks.cancel_task(1)
    assert cli("watch", "1").code == 1


def test_ctrl_c_leaves(cli: Callable[..., Any], tasks: Any, steps: Any) -> None:
    tasks.create_task(type="noop")
    steps.append(lambda: os.kill(os.getpid(), signal.SIGINT))
    assert cli("watch", "1").code == 130
    assert tasks.get_task(1).status == "pending"


def test_as_json_every_change_is_a_line(cli: Callable[..., Any], tasks: Any, steps: Any) -> None:
    tasks.create_task(type="noop")
    steps += [partial(start, tasks, 1), partial(end, tasks, 1)]
    lines = [json.loads(line) for line in cli("watch", "1", "--json").out.splitlines()]
    assert [line["status"] for line in lines] == ["pending", "running", "completed"]


@pytest.fixture
def held_by(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Obstacle]]:
    """What keeps tasks waiting, by id."""
    held: dict[int, list[Obstacle]] = {}

    def why(task_id: int) -> Why:
        tasks.asked.append(task_id)
        return Why(task_id=task_id, status="pending", waiting=True, reasons=tuple(held.get(task_id, ())))

    tasks.asked = []
    monkeypatch.setattr(tasks, "why", why)
    return held


NO_HANDLER = Obstacle(WaitReason.NO_HANDLER, "no handler is installed for type noop")
FULL = Obstacle(WaitReason.CONCURRENCY_LIMIT, "no worker is ready")
SOON = Obstacle(WaitReason.NOT_BEFORE, "not before noon")


def test_a_task_that_goes_on_waiting_tells_why_each_reason_once(
    tasks: Any, held_by: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks.create_task(type="noop")
    now = 0.0
    poller = Poller(Lines(err=False), lambda: now)
    for reasons in ([], [FULL, NO_HANDLER], [NO_HANDLER], [FULL], [NO_HANDLER, FULL], [SOON]):
        held_by[1] = reasons
        for _ in range(5):
            poller.at(tasks, 1)
            now += 1
    start(tasks, 1)
    poller.at(tasks, 1)
    assert capsys.readouterr().out.splitlines() == [
        "task 1 noop 0.0 % waiting",
        "task 1 noop 0.0 % waiting: no handler is installed for type noop (and 1 other reason)",
        "task 1 noop 0.0 % waiting: no worker is ready",
        "task 1 noop 0.0 % running",
    ]


def test_why_is_asked_rarely_and_of_one_task_after_the_other(tasks: Any, held_by: Any) -> None:
    """One question a second at most, and none for twenty times as long as the last answer took."""
    for _ in range(3):
        tasks.create_task(type="noop")
    tasks.create_task(type="noop", held=True)
    now, took = 0.0, 0.0

    class Slow:
        get_task, wait = tasks.get_task, tasks.wait

        def why(self, task_id: int) -> Why:
            nonlocal now
            now += took
            why: Why = tasks.why(task_id)
            return why

    poller = Poller(Lines(err=True), lambda: now)

    def look(seconds: float) -> list[int]:
        nonlocal now
        tasks.asked.clear()
        until = now + seconds
        while now < until:
            now += 0.5
            for task_id in (4, 1, 2, 3):  # of a held one nobody has to ask
                poller.at(Slow(), task_id)
        return list(tasks.asked)

    held_by[1] = [FULL]
    assert look(0.5) == []
    assert look(2.0)[:4] == [1, 2, 3, 1]
    took = 1.0
    first = look(1.0)
    assert len(first) == 1
    assert look(15.0) == []
    took = 0.0
    assert look(10.0)[:3] == [(task_id := first[0] % 3 + 1), (task_id := task_id % 3 + 1), task_id % 3 + 1]


def test_a_service_that_cannot_say_why_is_no_reason_to_stop(
    tasks: Any, held_by: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks.create_task(type="noop")
    held_by[1] = [FULL]
    now = 0.0
    poller = Poller(Lines(err=False), lambda: now)

    def gone(_task_id: int) -> Why:
        tasks.asked.append("gone")
        raise ServiceUnreachable("It restarts")

    with monkeypatch.context() as away:
        away.setattr(tasks, "why", gone)
        for _ in range(3):
            assert poller.at(tasks, 1) is not None
            now += 1
    assert tasks.asked == ["gone", "gone"]
    poller.at(tasks, 1)
    assert capsys.readouterr().out.splitlines()[1:] == ["task 1 noop 0.0 % waiting: no worker is ready"]


def test_the_line_of_a_batch_says_why_although_its_first_task_is_held(
    tasks: Any, held_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.cli.progress._WHY_EVERY", 0.0)
    tasks.create_task(type="noop", batch="b", held=True)
    waiting = _FirstWaiting(tasks, ["b"])
    assert waiting.held_by() == ()
    tasks.create_task(type="noop", batch="b")
    held_by[2] = [FULL]
    assert waiting.held_by() == (FULL,)


def test_why_is_not_asked_of_a_running_task_whose_message_is_waiting(tasks: Any, held_by: Any) -> None:
    start(tasks, tasks.create_task(type="noop"))
    tasks.journal.send(AttemptProgressed(task_id=1, attempt=1, progress=10.0, message="waiting"))
    held_by[1] = [FULL]
    now = 0.0
    poller = Poller(Lines(err=True), lambda: now)
    for _ in range(3):
        poller.at(tasks, 1)
        now += 0.9
    assert tasks.asked == []


@pytest.mark.parametrize(("display", "asked"), [(watch.Changes(), []), (Lines(err=True), [1])])
def test_lines_of_json_need_no_reasons(display: Lines, asked: list[int], tasks: Any, held_by: Any) -> None:
    tasks.create_task(type="noop")
    held_by[1] = [FULL]
    now = 0.0
    poller = Poller(display, lambda: now)
    for _ in range(3):
        poller.at(tasks, 1)
        now += 0.9
    assert tasks.asked == asked


def test_the_reasons_that_are_told_apart_are_reasons() -> None:
    assert {*WaitReason} >= STAYING | IN_THE_HEADLINE


def test_bars_say_what_a_task_waits_for(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    with Bars(screen) as bars:
        bars.show(tasks.get_task(tasks.create_task(type="noop")), [NO_HANDLER])
    assert "waiting: no handler is installed for type noop" in screen.getvalue()


@pytest.mark.parametrize(
    ("width", "has_bar", "has_times"), [(80, True, True), (72, True, True), (60, False, True), (40, False, False)]
)
def test_a_narrow_terminal_gets_fewer_columns_and_none_is_cut(
    tasks: Any, monkeypatch: pytest.MonkeyPatch, width: int, *, has_bar: bool, has_times: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    with Bars(screen) as bars:
        task_id = tasks.create_task(type="video_convert", input_file="/in/holiday.mov")
        start(tasks, task_id)
        bars.show(tasks.get_task(task_id))
    shown = screen.getvalue()
    assert "…" not in shown
    assert "1 holiday.mov" in shown
    assert "0.0 %" in shown
    assert "running" in shown
    assert ("━" in shown, "0:00:00" in shown and "--:--" in shown) == (has_bar, has_times)


def test_bars_show_percent_and_message(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    with Bars(screen) as bars:
        task_id = tasks.create_task(type="video_convert", input_file="/in/a film.mov")
        bars.show(tasks.get_task(task_id))
        start(tasks, task_id)
        tasks.journal.send(AttemptProgressed(task_id=1, attempt=1, progress=42.5, message="frame [bold]\x1b[2J"))
        bars.show(tasks.get_task(task_id))
        bars.say("beside [it]")
    shown = screen.getvalue()
    assert "1 a film.mov" in shown
    assert "ran" in shown
    assert "left" in shown
    assert "42.5 %" in shown
    assert "beside [it]" in shown
    assert "frame [bold]\\x1b[2J" in shown


def test_a_later_attempt_without_a_checkpoint_began_at_0_and_goes_on_at_its_own_pace(tasks: Any) -> None:
    task_id = tasks.create_task(type="noop")
    start(tasks, task_id)
    tasks.journal.send(AttemptProgressed(task_id=task_id, attempt=1, progress=10.0))
    task = replace(tasks.get_task(task_id), attempt=2)
    now = task.started_at + timedelta(seconds=100)
    assert _expected(task, {"noop": 200.0}, now) == pytest.approx(900.0)
    saved = replace(task, checkpoint=Checkpoint(processed_frames=9))
    assert _expected(saved, {"noop": 200.0}, now) == pytest.approx(180.0), "it may have begun anywhere"
