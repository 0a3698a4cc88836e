"""The service's log lines about records and answers, which cost little whatever comes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tasktrail.actors.logger import RateLimit
from tasktrail.actors.service_log import LINES_OF_A_KIND, ServiceLog
from tasktrail.events import (
    Accepted,
    Cancelled,
    CancelTask,
    Completed,
    Created,
    CreateTask,
    Failed,
    Progressed,
    Recorded,
    Retried,
    Started,
)
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import IllegalTransition, LogCorrupt
from tasktrail.events.system_events import DeliveryAttempted, LimitsChanged, QueuePaused, WorkerExited

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Told:
    """A service's log, and its lines."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[int] = []
        self.service_log = ServiceLog(
            self._first, SystemClock(), RateLimit(lambda: self.now, same=LINES_OF_A_KIND, most=2400)
        )

    def _first(self, task_id: int) -> Recorded | None:
        self.asked.append(task_id)
        return record(Created(type="looked_up"), task_id=task_id)

    def lines(self, *news: Any) -> list[dict[str, Any]]:
        with capture_logs() as lines:
            for one in news:
                if isinstance(one, Recorded):
                    self.service_log.put([one])
                else:
                    self.service_log.answered(*one)
            self.service_log.tell()
        return [dict(line) for line in lines]


@pytest.fixture
def told() -> Iterator[Told]:
    structlog.configure()
    one = Told()
    yield one
    one.service_log.close()
    structlog.reset_defaults()


def record(event: Any, task_id: int = 7, attempt: int = 0, **envelope: Any) -> Recorded:
    return Recorded(task_id, 1, event, AT, attempt=attempt, correlation_id="batch-1", position=41, **envelope)


@pytest.mark.parametrize(
    ("event", "attempt", "level", "name", "says"),
    [
        (Started(worker="w1"), 2, "info", "attempt started", {"worker": "w1"}),
        (Completed(result={"secret": 1}), 2, "info", "attempt ended", {}),
        (
            Failed(outcome="failed", error="no luck\nin two lines", error_type="ValueError", final=False),
            2,
            "warning",
            "attempt failed",
            {"error": "no luck", "error_type": "ValueError", "final": False, "outcome": "failed"},
        ),
        (Failed(outcome="failed", error="no", final=True), 2, "error", "attempt failed", {"final": True}),
        (Failed(outcome="lost", error="SIGSEGV", final=False), 2, "warning", "attempt lost", {"error": "SIGSEGV"}),
        (Failed(outcome="interrupted", error="", final=False), 2, "info", "attempt interrupted", {}),
        (Failed(outcome="failed", error="too late", final=True), 0, "error", "task failed", {"error": "too late"}),
        (Retried(cause="rule"), 2, "info", "task retried", {"cause": "rule"}),
        (Cancelled(attempt_running=True), 2, "info", "task cancelled", {"actor": "cli:me", "reason": "enough"}),
    ],
)
def test_each_step_of_an_attempt_is_a_line(
    told: Told, event: Any, attempt: int, level: str, name: str, says: dict[str, Any]
) -> None:
    (line,) = told.lines(record(event, attempt=attempt, actor="cli:me", reason="enough"))
    common = {"task_id": 7, "type": "looked_up", "attempt": attempt, "correlation_id": "batch-1"}
    expected = {"event": name, "log_level": level, **common, **says}
    assert {key: line[key] for key in expected} == expected
    assert "secret" not in repr(line)


def test_a_type_is_looked_up_once(told: Told) -> None:
    told.lines(record(Created(type="known"), task_id=1), record(Started(), task_id=1), record(Started(), task_id=2))
    (line,) = told.lines(record(Completed(), task_id=2))
    assert (line["type"], line["correlation_id"], told.asked) == ("looked_up", "batch-1", [2])


def test_a_task_whose_first_record_cannot_be_read_is_told_without_its_type(told: Told) -> None:
    """The lines about all other records of the same moment were lost with it."""

    def unreadable(_task_id: int) -> Recorded | None:
        raise LogCorrupt("The archive of positions 1 to 9 is missing")

    told.service_log._first_record = unreadable
    lines = told.lines(record(Started()), record(QueuePaused(), task_id=0))
    assert [(line["event"], line.get("type")) for line in lines] == [("attempt started", ""), ("queue paused", None)]


def test_commands_are_told_with_their_answers(told: Told) -> None:
    create, cancel = CreateTask(type="noop", correlation_id="batch-1", actor="me"), CancelTask(task_id=9, actor="ops")
    refusal = IllegalTransition("Task 9 is completed\nand more", field="task_id")
    accepted, refused = told.lines(([create, cancel], [Accepted(8, 40, "id-1"), refusal]))
    assert (
        accepted
        | {
            "event": "command accepted",
            "log_level": "info",
            "command": "create_task",
            "task_id": 8,
            "type": "noop",
            "attempt": 0,
            "correlation_id": "batch-1",
            "position": 40,
        }
        == accepted
    )
    assert (
        refused
        | {
            "event": "command refused",
            "log_level": "warning",
            "command": "cancel_task",
            "task_id": 9,
            "code": "illegal_transition",
            "error": "Task 9 is completed",
            "actor": "ops",
        }
        == refused
    )


def test_a_line_has_a_bounded_length_whatever_was_refused(told: Told) -> None:
    huge = CreateTask(type="x" * 10**6, actor="y" * 10**6, command_id="z" * 10**6)
    (line,) = told.lines(([huge], [IllegalTransition("w" * 10**6, field="v" * 10**6)]))
    assert len(repr(line)) < 2000


def test_what_operators_and_deliveries_do_is_told_without_addresses(told: Told) -> None:
    failed = DeliveryAttempted(
        notice_id="n1", task_id=7, channel="webhook", target="https://x/?token=canary", ok=False, detail="HTTP 500"
    )
    lines = told.lines(
        record(QueuePaused(type="noop"), task_id=0, actor="ops", reason="maintenance"),
        record(LimitsChanged(max_concurrent=2), task_id=0, actor="ops"),
        record(failed, task_id=0),
        record(DeliveryAttempted(notice_id="n1", task_id=7, channel="email", target="a@b", ok=True), task_id=0),
        record(WorkerExited(pid=1, exit_code=-9, why="recycled"), task_id=0),
        record(WorkerExited(pid=1, exit_code=-11, why="it died: badly"), task_id=0),
        record(Progressed(progress=1.0)),
    )
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("queue paused", "info"),
        ("limits changed", "info"),
        ("delivery failed", "warning"),
        ("worker died", "warning"),
    ]
    assert (lines[0]["type"], lines[0]["actor"], lines[0]["reason"]) == ("noop", "ops", "maintenance")
    assert (lines[1]["max_concurrent"], lines[2]["error"], lines[2]["task_id"]) == (2, "HTTP 500", 7)
    assert "canary" not in repr(lines)


def test_of_a_worker_that_could_not_begin_the_line_that_says_why_is_told(told: Told) -> None:
    """It used to be the first line of a traceback, which is the same whatever is wrong."""
    trace = 'it died: Traceback (most recent call last):\n  File "x.py", line 1\nRuntimeError: no home\n'
    crash = 'it died: Fatal Python error: Segmentation fault\n\nCurrent thread:\n  File "x.py", line 1'
    lines = told.lines(
        record(WorkerExited(pid=0, exit_code=1, why=trace), task_id=0),
        record(WorkerExited(pid=0, exit_code=-11, why=crash), task_id=0),
        record(WorkerExited(pid=0, exit_code=127, why="it died: too many open files"), task_id=0),
    )
    assert [line["error"] for line in lines] == [
        "it died: RuntimeError: no home",
        "it died: Fatal Python error: Segmentation fault",
        "it died: too many open files",
    ]


def test_of_a_flood_there_is_a_sample_and_a_count_and_other_lines_still_come(told: Told) -> None:
    told.service_log.put([record(Started(), task_id=number, attempt=1) for number in range(10_000)])
    lines = told.lines(record(Failed(outcome="failed", error="no", final=True), attempt=1))
    assert len(lines) == LINES_OF_A_KIND + 1
    assert lines[-1]["event"] == "attempt failed"
    told.now = 61.0
    (line,) = told.lines(record(Started(), attempt=1))
    assert line["left_out"] >= 10_000 - LINES_OF_A_KIND - 1


def test_while_nobody_reads_what_comes_is_dropped_and_counted(told: Told) -> None:
    told.service_log.close()
    for number in range(5000):
        told.service_log.put([record(Started(), task_id=number)])
    assert len(told.service_log._feed.take()) == 2000
    told.lines()
    told.now = 61.0
    (line,) = told.lines(record(Started()))
    assert line["left_out"] >= 3000


def test_inside_another_program_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    service_log = ServiceLog(lambda _: None, SystemClock())
    service_log.put([record(Started())])
    service_log.close()
    assert capsys.readouterr() == ("", "")
