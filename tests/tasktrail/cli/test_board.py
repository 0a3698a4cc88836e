"""The picture of `watch`: it fits the screen however many tasks there are, and shows the most important first."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from rich.cells import cell_len

from tasktrail.actors.core.explanation import Obstacle, WaitReason
from tasktrail.cli import watch
from tasktrail.cli.watch import Board, Totals, Watch, picture, totals_in_words, totals_of
from tasktrail.events import Failed, Retried, Started
from tasktrail.events.errors import ServiceUnreachable
from tasktrail.events.reports import AttemptEnded, AttemptProgressed
from tasktrail.expectation import means_of

NAME = "Aufzeichnung der Sitzung vom 3. März, Teil {}.mov"


class FakeScreen:
    """Keeps every picture."""

    def __init__(self, columns: int = 80, lines: int = 23) -> None:
        self.columns, self.lines = columns, lines
        self.pictures: list[list[str]] = []
        self.said: list[str] = []

    def size(self) -> tuple[int, int]:
        return self.columns, self.lines

    def draw(self, lines: Sequence[str]) -> None:
        assert len(lines) <= self.lines
        assert [line for line in lines if cell_len(line) > self.columns] == []
        self.pictures.append(list(lines))

    def above(self, text: str) -> None:
        self.said.append(text)


def create(tasks: Any, number: int, **more: Any) -> int:
    fields = {"type": "video_convert", "input_file": f"/in/{NAME.format(number)}", **more}
    return int(tasks.create_task(**fields))


def start(tasks: Any, task_id: int) -> None:
    tasks.journal.record(task_id, Started(worker="w1"))


def end(tasks: Any, task_id: int, outcome: Any = "completed") -> None:
    error = "the file ends in the middle of a frame" if outcome != "completed" else ""
    tasks.journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome=outcome, error=error))


def look(tasks: Any, screen: FakeScreen, *ids: int) -> tuple[Watch, Callable[[], list[str]]]:
    board = Board(screen)
    watched = Watch(tasks, board, ids)

    def again() -> list[str]:
        watched.look()
        watched.draw(board, tasks.journal.at)
        return screen.pictures[-1]

    return watched, again


def test_a_day_of_forty_tasks(tasks: Any) -> None:
    """Names, totals, labelled times; running tasks come first, ended ones are folded away."""
    for number in range(1, 41):
        create(tasks, number)
    screen = FakeScreen()
    _watched, again = look(tasks, screen)
    assert again()[0] == "0 of 40 done"
    for task_id in (7, 9):
        start(tasks, task_id)
    tasks.later(60)
    for task_id, outcome in ((7, "completed"), (9, "failed")):
        end(tasks, task_id, outcome)
    for task_id in (30, 31):
        start(tasks, task_id)
    tasks.later(30)
    tasks.journal.send(AttemptProgressed(task_id=30, attempt=1, progress=50.0, message="segment 3 of 6"))
    lines = again()
    assert lines[0] == "1 of 40 done, 1 failed, about 20 min left"
    assert lines[2].split() == ["ID", "STATUS", "DONE", "RAN", "LEFT", "INPUT", "TYPE"]
    first, second, third = [line for line in lines[4:] if line.split()[1:2] in (["running"], ["waiting"])][:3]
    assert first.split()[:8] == ["30", "running", "50.0", "%", "30", "s", "30", "s"]
    assert NAME.format(30)[:20] in first
    assert second.split()[:2] == ["31", "running"]
    assert third.split()[:2] == ["1", "waiting"]
    assert not any(line.split()[:1] in (["7"], ["9"]) for line in lines[4:])
    (failed,) = [line for line in lines if line.startswith("failed: 9 video_convert Aufzeichnung")]
    assert any(line.startswith("and ") and line.endswith(" more") for line in lines)
    assert failed


@pytest.mark.parametrize("size", [(60, 10), (80, 23), (120, 40), (200, 60), (40, 5), (80, 2)])
def test_it_fits_any_screen_with_hundreds_of_tasks(tasks: Any, size: tuple[int, int]) -> None:
    for number in range(1, 151):
        create(tasks, number)
    for task_id in range(1, 121):
        start(tasks, task_id)
    for task_id in range(1, 21):
        end(tasks, task_id, "failed" if task_id % 2 else "completed")
    screen = FakeScreen(*size)
    _watched, again = look(tasks, screen)
    lines = again()
    assert lines[0].startswith("0 of 130 done")
    shown = [line.split() for line in lines if line.split()[1:2] in (["running"], ["waiting"])]
    hidden = sum(int(line.split()[1]) for line in lines if line.startswith("and ") and "failed" not in line)
    assert len(lines) < 5 or len(shown) + hidden == 130
    assert [row[1] for row in shown] == sorted(row[1] for row in shown)


def test_named_tasks_are_counted_by_themselves_and_a_failure_is_told(tasks: Any) -> None:
    for number in (1, 2, 3):
        create(tasks, number)
    screen = FakeScreen()
    watched, again = look(tasks, screen, 1, 2)
    assert again()[0] == "0 of 2 done"
    for task_id, outcome in ((1, "completed"), (2, "failed")):
        start(tasks, task_id)
        end(tasks, task_id, outcome)
    lines = again()
    assert lines[0] == "1 of 2 done, 1 failed"
    assert "the file ends in the middle of a frame" in " ".join(" ".join(lines).split())
    assert not watched.look()
    assert not watched.all_completed


def test_messages_stand_below_while_there_is_room(tasks: Any) -> None:
    create(tasks, 1)
    start(tasks, 1)
    tasks.journal.send(AttemptProgressed(task_id=1, attempt=1, progress=12.0, message="segment 1 of 6\x1b[2J"))
    for lines, there in ((23, True), (5, False)):
        screen = FakeScreen(lines=lines)
        _watched, again = look(tasks, screen, 1)
        assert any("segment 1 of 6\\x1b[2J" in line for line in again()) is there


def test_a_waiting_task_says_why_while_there_is_room(tasks: Any) -> None:
    for number in (1, 2):
        create(tasks, number)
    start(tasks, 1)
    tasks.journal.send(
        AttemptProgressed(task_id=1, attempt=1, progress=12.0, message="segment 1 of 6 at 25.0 frames/s")
    )
    full = Obstacle(WaitReason.CONCURRENCY_LIMIT, "1 attempt holds all the slots")
    for height, shown in ((10, (True, True)), (9, (True, False)), (7, (False, False))):
        screen = FakeScreen(lines=height)
        board = Board(screen)
        for task_id in (1, 2):
            board.show(tasks.get_task(task_id), [full] if task_id == 2 else ())
        board.draw(Totals(total=2), {}, tasks.journal.at)
        told = "\n".join(screen.pictures[-1])
        assert ("segment 1 of 6" in told, "1 attempt holds all the slots" in told) == shown


def test_held_tasks_do_not_count_in_the_time_left(tasks: Any) -> None:
    """They wait until somebody releases them, at an unknown time."""
    create(tasks, 1)
    create(tasks, 2, held=True)
    known, now = [tasks.get_task(1), tasks.get_task(2)], tasks.journal.at
    assert totals_of(known, {"video_convert": 90.0}, now).left == 90.0
    screen = FakeScreen()
    start(tasks, 1)
    tasks.later(90)
    end(tasks, 1)
    create(tasks, 3)
    _watched, again = look(tasks, screen)
    assert again()[0] == "0 of 2 done, about 2 min left"


def test_the_time_left_is_guessed_only_from_what_is_known(tasks: Any) -> None:
    """By the mean of the type and the number that run at once; without a history, by what the sender expects."""
    create(tasks, 1)
    create(tasks, 2, estimated_time=600.0)
    known, now = [tasks.get_task(1), tasks.get_task(2)], tasks.journal.at
    assert totals_of(known, {}, now).left is None
    assert totals_of(known[1:], {}, now).left == 600.0
    assert totals_of(known, {"video_convert": 90.0}, now).left == 180.0
    for task_id in (1, 2):
        start(tasks, task_id)
    assert totals_of([tasks.get_task(1), tasks.get_task(2)], {"video_convert": 90.0}, now).left == 90.0
    tasks.later(40)
    end(tasks, 1)
    assert means_of(tasks.stats()) == {"video_convert": pytest.approx(40, rel=0.2)}


def pace(lines: Sequence[str]) -> dict[str, list[str]]:
    """Map the id of each running task to the text after its percentage: how long it ran, and the time left."""
    return {line.split()[0]: line.split()[4:8] for line in lines if line.split()[1:2] == ["running"]}


def test_the_totals_say_of_what_runs_what_its_row_says(tasks: Any) -> None:
    """By its own pace, whatever was expected of it; and the whole is not done before its last running task."""
    for number in (1, 2):
        create(tasks, number, estimated_time=10.0)
    start(tasks, 1)
    tasks.later(8)
    start(tasks, 2)
    tasks.later(1)
    for task_id, progress in ((1, 15.0), (2, 50.0)):
        tasks.journal.send(AttemptProgressed(task_id=task_id, attempt=1, progress=progress))
    for ids, left in (((1,), "about 51 s left"), ((1, 2), "about 51 s left"), ((), "about 51 s left")):
        _watched, again = look(tasks, FakeScreen(), *ids)
        lines = again()
        assert lines[0].endswith(left)
        assert pace(lines)["1"] == ["9", "s", "51", "s"]


def test_an_attempt_that_was_resumed_is_not_judged_by_what_the_one_before_has_done(tasks: Any) -> None:
    create(tasks, 1, estimated_time=100.0)
    lost = Failed(outcome="interrupted", error="the service was gone", final=False)
    tasks.journal.record(1, Started(worker="w1"), lost, Retried(cause="recovery"), Started(worker="w1", resumed=True))
    tasks.journal.send(AttemptProgressed(task_id=1, attempt=2, progress=40.0))
    tasks.later(1)
    _watched, again = look(tasks, FakeScreen(), 1)
    lines = again()
    assert lines[0] == "0 of 1 done, about 60 s left"
    assert pace(lines)["1"] == ["1", "s", "60", "s"]


@pytest.mark.parametrize(
    ("totals", "told"),
    [
        (Totals(total=0), "0 of 0 done"),
        (Totals(total=40, completed=3, failed=2, left=720.0), "3 of 40 done, 2 failed, about 12 min left"),
        (Totals(total=3, completed=1, cancelled=1, left=4.0), "1 of 3 done, 1 cancelled, about 4 s left"),
        (Totals(total=3, completed=3, left=0.0), "3 of 3 done"),
        (Totals(total=9, left=9000.0), "0 of 9 done, about 2 h left"),
        (Totals(total=9, left=9e5), "0 of 9 done, about 10 d left"),
    ],
)
def test_totals_in_words(totals: Totals, told: str) -> None:
    assert totals_in_words(totals) == told


def test_a_service_that_is_away_leaves_the_last_picture_and_is_told_above(
    tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tasks, 1)
    screen = FakeScreen()
    _watched, again = look(tasks, screen, 1)
    before = again()

    def gone(*_arguments: Any) -> None:
        raise ServiceUnreachable("gone")

    with monkeypatch.context() as away:
        for name in ("get_task", "list_tasks", "stats"):
            away.setattr(tasks, name, gone)
        assert again() == before
    assert screen.said == ["the service does not answer; waiting for it"]


def test_on_a_terminal_watch_draws_the_board(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tasks, 1)
    screen = FakeScreen()
    steps = [partial(start, tasks, 1), partial(end, tasks, 1)]
    draw = screen.draw

    def drawing(lines: Sequence[str]) -> None:
        draw(lines)
        if steps:
            steps.pop(0)()

    monkeypatch.setattr(screen, "draw", drawing)
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(watch, "_display", lambda _session, _stack: Board(screen))
    assert cli("watch").code == 0
    assert [lines[0].partition(",")[0] for lines in screen.pictures] == ["0 of 1 done", "0 of 1 done", "1 of 1 done"]


def test_a_picture_of_nothing_is_its_totals() -> None:
    assert picture([], Totals(total=0), {}, datetime(2026, 1, 1, tzinfo=UTC), width=80, height=24) == ["0 of 0 done"]
