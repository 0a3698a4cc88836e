"""Short attempts are given to a worker several at once: what happens to those that wait there."""

import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest
from inline_executor import Reports

from tasktrail.actors.core.routing import SHORT_AT_ONCE
from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.actors.workers.slot import SlotRules
from tasktrail.events.reports import AttemptEnded, AttemptProgressed, AttemptsHeld, Run, Stop, TellHeld, WorkerGone
from tasktrail.handlers.process.sandbox import Sandbox

SUPPORT = Path(__file__).parent.parent / "support"
TYPES = ("echo", "patient", "die", "tool", "late", "deaf", "hang", "noop", "hog", "leave", "forge", "garbage", "note")
FREE, SANDBOXED = (Sandbox(mode="off"), "sample_handlers"), (Sandbox(mode="auto"), "sample_handlers")
KEPT = (Sandbox(mode="auto"), "kept_handlers")
"""Attempts in one process of their worker's, one after another."""
MakeExecutor: TypeAlias = Callable[..., tuple[LocalExecutor, Reports]]


TEMP = Path()
"""The place for the temp folders of attempts, separate for each test."""


@pytest.fixture(autouse=True)
def _temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "TEMP", tmp_path / "temp")


@pytest.fixture(params=[FREE, SANDBOXED, KEPT], ids=["free", "sandboxed", "kept"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeExecutor]:
    """Make an executor and open it. It is closed afterwards, and has reported the end of each attempt once by then."""
    made: list[tuple[LocalExecutor, Reports]] = []
    sandbox, module = request.param
    homes = {name: f"{module}:{name}" for name in TYPES}

    def build(slots: int = 1, **rules: Any) -> tuple[LocalExecutor, Reports]:
        executor = LocalExecutor(
            slots=slots,
            homes=homes,
            pythonpath=[str(SUPPORT)],
            sandbox=sandbox,
            rules=SlotRules(backoff=0.001, backoff_max=0.01, **rules),
        )
        made.append((executor, Reports(executor)))
        made[-1][1].capacity(slots)
        return made[-1]

    yield build
    for executor, reports in made:
        executor.close(5.0)
        ends = [(report.task_id, report.attempt) for report in reports.all if isinstance(report, AttemptEnded)]
        assert len(ends) == len(set(ends))


def short(task_type: str, task_id: int, *, grace: float = 0.2, workers: int = 9, **options: Any) -> Run:
    return Run(task_id, 1, task_type, "", "", options, None, f"{TEMP}/{task_id}", grace=grace, shared_workers=workers)


def echoes(first: int, last: int) -> list[Run]:
    return [short("echo", number, value=number) for number in range(first, last + 1)]


def at_work(reports: Reports, task_id: int) -> AttemptProgressed:
    said = reports.until(lambda report: isinstance(report, AttemptProgressed) and report.task_id == task_id)
    assert isinstance(said, AttemptProgressed)
    return said


def all_complete(reports: Reports, first: int, last: int) -> None:
    for number in range(first, last + 1):
        ended = reports.end(number)
        assert (ended.outcome, ended.result["value"]) == ("completed", number)


def gone(reports: Reports) -> list[WorkerGone]:
    return [report for report in reports.all if isinstance(report, WorkerGone)]


def test_one_worker_runs_them_one_after_another(make: MakeExecutor) -> None:
    executor, reports = make()
    executor.do(echoes(1, 3 * SHORT_AT_ONCE))
    all_complete(reports, 1, 3 * SHORT_AT_ONCE)
    ends = [report.task_id for report in reports.all if isinstance(report, AttemptEnded)]
    assert ends == sorted(ends)
    assert gone(reports) == []


def test_idle_workers_come_first(make: MakeExecutor) -> None:
    executor, reports = make(slots=2)
    executor.do([short("patient", 1), short("patient", 2)])
    at_work(reports, 1)
    at_work(reports, 2)


def test_those_behind_a_slow_one_go_to_another_worker(make: MakeExecutor) -> None:
    executor, reports = make(slots=2)
    executor.do([short("patient", 1), *echoes(2, 2 * SHORT_AT_ONCE)])
    all_complete(reports, 2, 2 * SHORT_AT_ONCE)
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


def test_they_are_told_as_held_wherever_they_wait(make: MakeExecutor) -> None:
    executor, reports = make()
    executor.do([short("patient", 1), *echoes(2, 4), TellHeld(1)])
    held = reports.until(lambda report: isinstance(report, AttemptsHeld))
    assert isinstance(held, AttemptsHeld)
    assert sorted(held.attempts) == [(number, 1) for number in range(1, 5)]
    executor.do([Stop(1, 1)])
    all_complete(reports, 2, 4)


@pytest.mark.parametrize("shape", ["exit", "abort", "kill"])
def test_those_behind_one_that_dies_run_on_its_successor(make: MakeExecutor, shape: str) -> None:
    executor, reports = make()
    executor.do([short("die", 1, shape=shape), *echoes(2, 6)])
    assert reports.end(1).outcome in ("lost", "failed")
    all_complete(reports, 2, 6)
    assert len(gone(reports)) == 1


def test_one_that_waits_is_stopped_without_having_begun(make: MakeExecutor) -> None:
    executor, reports = make()
    executor.do([short("patient", 1), *echoes(2, 3), Stop(2, 1)])
    ended = reports.end(2)
    assert (ended.outcome, ended.message) == ("stopped", "it had not begun")
    assert not any(isinstance(report, AttemptEnded) and report.task_id != 2 for report in reports.all)
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"
    all_complete(reports, 3, 3)


def test_the_signal_for_the_tools_of_one_does_not_reach_those_of_the_next(make: MakeExecutor) -> None:
    executor, reports = make()
    executor.do([short("tool", 1), short("tool", 2)])
    at_work(reports, 1)
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"
    at_work(reports, 2)
    executor.do([TellHeld(1)])
    reports.until(lambda report: isinstance(report, AttemptsHeld))
    assert not any(isinstance(report, AttemptEnded) and report.task_id == 2 for report in reports.all)
    executor.do([Stop(2, 1)])
    assert reports.end(2).outcome == "stopped"


def test_those_behind_one_that_has_to_be_killed_run_all_the_same(make: MakeExecutor) -> None:
    executor, reports = make()
    executor.do([short("deaf", 1, grace=0.05), *echoes(2, 4)])
    at_work(reports, 1)
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"
    all_complete(reports, 2, 4)


def test_a_worker_that_does_not_answer_holds_nobody_up_for_ever(make: MakeExecutor) -> None:
    executor, reports = make()
    executor.do([short("hang", 1, grace=0.05), short("echo", 2, grace=0.05, value=2)])
    at_work(reports, 1)
    executor.do([Stop(2, 1)])
    assert reports.end(2).outcome == "stopped"
    executor.do([Stop(1, 1)])
    ended = reports.end(1)
    assert ended.outcome == "stopped" or ended.error.startswith("PROTOCOL: the worker was killed (it did not say which")


@pytest.mark.parametrize("make", [SANDBOXED, KEPT], indirect=True)
@pytest.mark.parametrize("shape", ["withdrawn", "end"])
def test_a_sandboxed_attempt_cannot_speak_for_its_worker_or_its_neighbour(make: MakeExecutor, shape: str) -> None:
    executor, reports = make()
    executor.do([short("forge", 1, shape=shape), *echoes(2, 3)])
    assert (reports.end(1).outcome, reports.end(1).error_type) == ("lost", "ProtocolError")
    all_complete(reports, 2, 3)


@pytest.mark.parametrize("make", [FREE], indirect=True)
def test_those_behind_garbage_do_not_run_twice(make: MakeExecutor, tmp_path: Path) -> None:
    """The worker continues until it is killed, and its messages cannot be understood."""
    executor, reports = make()
    notes = tmp_path / "notes"
    for begin in range(1, 61, 10):
        others = [short("note", number, value=str(notes)) for number in range(begin + 1, begin + 10)]
        executor.do([short("garbage", begin, shape="once"), *others])
        assert reports.end(begin).outcome == "lost"
        for other in others:
            reports.end(other.task_id)
    lines = notes.read_text().split() if notes.exists() else []
    assert len(lines) == len(set(lines))


def test_no_more_workers_run_short_attempts_than_may(make: MakeExecutor) -> None:
    executor, reports = make(slots=3)
    executor.do([short("patient", number, workers=1) for number in range(1, 4)])
    for number in range(1, 4):
        at_work(reports, number)
        executor.do([Stop(number, 1)])
        reports.end(number)
    heard = [
        (type(report), report.task_id) for report in reports.all if isinstance(report, AttemptProgressed | AttemptEnded)
    ]
    assert [number for _, number in heard] == [1, 1, 2, 2, 3, 3]


def test_a_worker_that_has_to_be_replaced_begins_no_other(make: MakeExecutor) -> None:
    executor, reports = make()
    executor.do([short("late", 1), *echoes(2, 4)])
    assert reports.end(1).outcome == "completed"
    all_complete(reports, 2, 4)


def test_a_worn_worker_is_given_no_more(make: MakeExecutor) -> None:
    executor, reports = make(recycle_after=5, recycle_age=0.0)
    for begin in range(1, 61, 20):
        executor.do(echoes(begin, begin + 19))
    all_complete(reports, 1, 60)
    reports.until(lambda report: isinstance(report, WorkerGone) and report.why == "recycled")


def test_nothing_passes_one_that_needs_a_worker_to_itself(make: MakeExecutor) -> None:
    executor, reports = make()
    alone = Run(4, 1, "echo", "", "", {"value": 4}, None, f"{TEMP}/4")
    executor.do([*echoes(1, 3), alone, *echoes(5, 6)])
    all_complete(reports, 1, 6)
    assert [report.task_id for report in reports.all if isinstance(report, AttemptEnded)] == [1, 2, 3, 4, 5, 6]


def test_those_that_wait_when_it_closes_have_not_begun(make: MakeExecutor) -> None:
    executor, reports = make()
    executor.do([short("patient", 1), *echoes(2, 5)])
    at_work(reports, 1)
    executor.close(5.0)
    assert [reports.end(number).outcome for number in range(1, 6)] == ["stopped"] * 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_has_one_end_whoever_is_killed_or_stopped(make: MakeExecutor, seed: int) -> None:
    dice = random.Random(seed)
    executor, reports = make(slots=2, recycle_after=7, recycle_age=0.0)
    kinds = ("echo", "echo", "echo", "noop", "hog", "patient", "die", "late", "leave", "tool")
    stopped: set[int] = set()
    for begin in range(1, 201, 20):
        numbers = range(begin, begin + 20)
        executor.do([short(dice.choice(kinds), number, grace=0.02, count=1, shape="plain") for number in numbers])
        for _ in range(dice.randrange(4)):
            _kill_one(dice)
        for number in dice.sample(numbers, dice.randrange(8)):
            stopped.add(number)
            executor.do([Stop(number, 1)])
        for number in numbers:
            executor.do([Stop(number, 1)])  # some would work for ever
            reports.end(number)


def _kill_one(dice: random.Random) -> None:
    """Send SIGKILL to any process of the executor."""
    try:
        dice.choice(psutil.Process().children(recursive=True)).send_signal(signal.SIGKILL)
    except (IndexError, psutil.NoSuchProcess):
        return


def test_what_was_ordered_before_all_were_ended_is_ended_too(make: MakeExecutor) -> None:
    executor, reports = make()
    executor._orders._orders.append(short("patient", 1))  # as when the executor's thread is at work

    executor.end_attempts("the service has not renewed the lease")

    assert reports.end(1).outcome == "stopped"
