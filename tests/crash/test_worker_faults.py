"""Handlers that break their worker: the attempt is reported lost, and the executor continues."""

import os
import signal
import time
from collections.abc import Callable

import pytest
from inline_executor import Reports

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.events.reports import AttemptProgressed, Run, Stop, WorkerGone

pytestmark = pytest.mark.crash


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ("exit", "The worker ended with exit code 7. Its last output: last words"),
        ("abort", "The worker was killed by signal 6 (SIGABRT). Its last output: Fatal Python error: Aborted"),
        ("kill", "The worker was killed by signal 9 (SIGKILL)."),
    ],
)
def test_a_worker_that_dies_makes_its_attempt_lost_and_is_replaced(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], shape: str, error: str
) -> None:
    executor.do([run("die", shape=shape)])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("lost", "WorkerLost")
    assert ended.error.startswith(error)
    executor.do([run("noop", task_id=2)])
    assert reports.end(2).outcome == "completed"


@pytest.mark.parametrize("task_type", ["deaf", "hang"])
def test_a_handler_that_cannot_be_asked_is_killed_after_its_grace(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], task_type: str
) -> None:
    executor.do([run(task_type, grace=0.3)])
    reports.until(lambda report: isinstance(report, AttemptProgressed))

    begun = time.monotonic()
    executor.do([Stop(1, 1), Stop(1, 1)])
    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"
    assert time.monotonic() - begun >= 0.3


def test_a_stop_ends_the_tools_of_a_handler_by_sigterm(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run]
) -> None:
    executor.do([run("tool", grace=60.0)])
    reports.until(lambda report: isinstance(report, AttemptProgressed))

    executor.do([Stop(1, 1)])

    ended = reports.end(1)
    assert (ended.outcome, "ended with -15" in ended.error) == ("stopped", True)


def test_a_worker_that_dies_after_the_stop_is_stopped_and_not_lost(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run]
) -> None:
    executor.do([run("deaf", grace=60.0)])
    said = reports.until(lambda report: isinstance(report, AttemptProgressed))
    assert isinstance(said, AttemptProgressed)

    executor.do([Stop(1, 1)])
    os.kill(int(said.message), signal.SIGKILL)

    assert reports.end(1).outcome == "stopped"


@pytest.mark.parametrize("shape", ["noise", "huge", "wrong"])
def test_garbage_from_a_worker_costs_its_attempt_and_nothing_else(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], shape: str
) -> None:
    executor.do([run("garbage", shape=shape)])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("lost", "ProtocolError")
    assert ended.error.startswith("PROTOCOL")
    executor.do([run("noop", task_id=2)])
    assert reports.end(2).outcome == "completed"


def test_a_worker_that_holds_what_cannot_be_freed_is_replaced(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run]
) -> None:
    executor.do([run("abandons")])

    assert reports.end(1).outcome == "completed"
    exited = reports.until(lambda report: isinstance(report, WorkerGone))
    assert isinstance(exited, WorkerGone)
    assert exited.why == "replaced: it gave up an encoder that cannot be freed"


def test_what_a_stray_thread_says_after_the_end_counts_for_nothing(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run]
) -> None:
    executor.do([run("late")])

    assert reports.end(1).outcome == "completed"
    executor.do([run("noop", task_id=2)])
    assert reports.end(2).outcome == "completed"
    exited = reports.until(lambda report: isinstance(report, WorkerGone))
    assert isinstance(exited, WorkerGone)
    assert exited.why == "replaced: it left a thread"


def test_the_copy_of_a_worker_that_forked_does_not_speak_for_it(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run]
) -> None:
    executor.do([run("fork")])
    reports.end(1)
    executor.do([run("noop", task_id=2)])
    reports.end(2)

    assert [type(report).__name__ for report in reports.of(1)] == ["AttemptEnded"]


def test_a_flood_of_output_blocks_nobody_and_stays_out_of_the_service(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], capfd: pytest.CaptureFixture[str]
) -> None:
    executor.do([run("flood")])

    assert reports.end(1).result == {"printed": 3_000_000}
    assert capfd.readouterr() == ("", "")


def test_poison_tasks_in_a_row_do_not_make_a_fork_storm(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run]
) -> None:
    executor.do([run("die", task_id=number, shape="kill") for number in range(1, 11)])

    assert {reports.end(number).outcome for number in range(1, 11)} == {"lost"}
    exits = [report for report in reports.all if isinstance(report, WorkerGone)]
    assert len(exits) == 10
