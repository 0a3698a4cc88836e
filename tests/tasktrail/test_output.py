"""The output that an attempt prints, through the whole service: kept, readable while it runs, and harmless."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail import TaskService
from tasktrail.events.errors import UnknownAttempt, UnknownTask
from tasktrail.events.system_events import WorkerExited

WITHIN = 30.0
Opener = Callable[..., TaskService]
Start = Callable[..., TaskService]


@pytest.fixture(params=["auto", "off"])
def start(request: pytest.FixtureRequest, open_service: Opener) -> Start:
    """Start a service with the types of tests/support/printing_handlers.py, with a sandbox and without."""

    def make(**settings: Any) -> TaskService:
        wanted = {"workers": 1, "handlers": ("printing_handlers",), "sandbox": request.param, **settings}
        return open_service(**wanted)

    return make


def talk(service: TaskService, what: str, **options: Any) -> int:
    return service.create_task(type="talker", options={"what": what, **options}, max_retries=0)


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    assert any(condition() or pause.wait(0.02) for _ in range(500))


def test_what_a_handler_and_its_children_print_is_kept_for_each_attempt(start: Start, tmp_path: Path) -> None:
    service = start()
    first, second = talk(service, "text"), talk(service, "fail")
    service.wait(first, WITHIN)
    service.wait(second, WITHIN)

    found = service.output(first)
    assert sorted(found.text.splitlines()) == [
        "a child says hello",
        "and complains",
        "error of the handler",
        "out of the handler",
    ]
    assert (found.attempt, found.attempts, found.running, found.left_out) == (1, (1,), False, 0)
    assert "just before" not in found.text
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "data" / "output").rglob("*")}
    assert modes == {0o700, 0o600}


def test_the_traceback_of_a_failure_is_kept_and_the_log_has_one_line_of_it(start: Start) -> None:
    service = start()
    task = service.wait(talk(service, "fail"), WITHIN)

    text = service.output(task.id).text
    assert text.startswith("just before\nTraceback (most recent call last):\n")
    assert text.endswith("ValueError: no luck at level 0 after 12\n")
    assert text.count("_deep(level - 1)") == 3
    assert "attempt.py" not in text
    assert "local-canary" not in text
    assert "just before" not in repr(list(service.log()))
    assert "\n" not in task.error


def test_of_a_verdict_on_the_input_only_its_cause_is_printed(start: Start) -> None:
    service = start()
    task = service.wait(talk(service, "judge"), WITHIN)
    assert task.error == "the input is not for us"
    assert service.output(task.id).text == "ValueError: no luck at level 0 after 12\n"


def test_it_can_be_read_while_the_attempt_runs(start: Start) -> None:
    service = start(grace_period=WITHIN)
    task_id = talk(service, "wait")
    until(lambda: service.output(task_id).text == "before\n")
    seen = service.output(task_id)
    assert (seen.running, seen.next) == (True, 7)

    service.cancel_task(task_id)
    until(lambda: service.output(task_id).text == "before\nafter\n")
    assert service.output(task_id, after=seen.next).text == "after\n"


def test_one_that_prints_without_end_fills_no_disk_and_is_not_held_up(start: Start, tmp_path: Path) -> None:
    service = start(max_output=100_000)
    task = service.wait(talk(service, "much", count=2000), WITHIN)

    assert task.status == "completed"
    found = service.output(task.id)
    assert found.size == 2000 * 65536 + len(b"the first line\nthe last line\n")
    assert found.text.startswith("the first line\n0123456789abcde\n")
    assert found.text.endswith("0123456789abcde\nthe last line\n")
    assert f"[{found.left_out:,} bytes were not kept]" in found.text
    assert sum(path.stat().st_size for path in (tmp_path / "data" / "output").rglob("*.*")) <= 100_000


def test_garbage_is_told_in_letters(start: Start) -> None:
    service = start()
    task = service.wait(talk(service, "garbage"), WITHIN)
    assert service.output(task.id).text == "red \\x07bell \\x9b1m \\xff\\xfe \\u202e turned\nend\n"


def test_a_crash_keeps_its_last_words_and_the_log_has_one_line_in_the_records_of_the_task(start: Start) -> None:
    service = start(max_crashes=1)
    task = service.wait(talk(service, "die"), WITHIN)

    assert (task.status, task.error_type) == ("failed", "WorkerLost")
    text = service.output(task.id).text
    assert "last words\n" in text
    assert "Fatal Python error: Aborted" in text
    assert "in die" in text
    assert "Its last output: last words" in task.error
    assert "Fatal Python error" not in repr(list(service.log()))
    of_service = [record for record in service.log() if not record.task_id]
    assert any(isinstance(record.event, WorkerExited) for record in of_service)
    assert "last words" not in repr(of_service)  # these outlive the task's erasure


def test_one_that_leaves_a_child_behind_holds_nothing_up(start: Start) -> None:
    service = start()
    first = service.wait(talk(service, "leave"), WITHIN)
    second = service.wait(talk(service, "text"), WITHIN)
    assert (first.status, second.status) == ("completed", "completed")
    assert service.output(first.id).text.startswith("I go\n")
    assert "I stay" not in service.output(second.id).text


def test_home_and_temp_files_of_an_attempt_are_in_its_own_folder(start: Start) -> None:
    service = start()
    task = service.wait(talk(service, "home"), WITHIN)
    assert task.result["HOME"] == task.result["TMPDIR"] == task.result["folder"]


def test_nothing_is_kept_where_nothing_is_wanted(start: Start, tmp_path: Path) -> None:
    service = start(max_output=0)
    task = service.wait(talk(service, "text"), WITHIN)
    assert (task.status, service.output(task.id).text) == ("completed", "")
    assert not (tmp_path / "data" / "output").exists()


def test_what_is_not_there_is_refused_by_name(service: TaskService) -> None:
    task_id = service.create_task(type="noop", held=True)
    assert (service.output(task_id).attempt, service.output(task_id).text) == (0, "")
    with pytest.raises(UnknownAttempt, match="has had 0 attempts, and none is number 2"):
        service.output(task_id, 2)
    with pytest.raises(UnknownTask):
        service.output(task_id + 1)
