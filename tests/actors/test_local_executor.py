"""The executor on processes, beyond the common contract."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest
from inline_executor import Reports
from msgspec.structs import replace
from structlog.testing import capture_logs

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.actors.workers.slot import Slot, SlotRules
from tasktrail.events.reports import (
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProgressed,
    AttemptsHeld,
    CapacityChanged,
    Report,
    Run,
    Stop,
    TellHeld,
    WorkerGone,
)
from tasktrail.events.task_events import Estimated
from tasktrail.handlers.contract import Room
from tasktrail.handlers.process.sandbox import Sandbox, sandbox_support

SUPPORT = Path(__file__).parent.parent / "support"
TYPES = (
    "noop",
    "echo",
    "hog",
    "library",
    "environment",
    "patient",
    "die",
    "temp",
    "bare",
    "garbage",
    "roomy",
    "sharing",
    "terminate",
    "pool",
)
MakeExecutor: TypeAlias = Callable[..., LocalExecutor]


TEMP = Path()
"""The place for the temp folders of attempts, separate for each test."""


@pytest.fixture(autouse=True)
def _temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "TEMP", tmp_path / "temp")


@pytest.fixture
def make() -> Iterator[MakeExecutor]:
    """Make an executor; all are closed afterwards."""
    made = []

    def build(slots: int = 1, pythonpath: tuple[str, ...] = (), **settings: Any) -> LocalExecutor:
        homes = {name: f"sample_handlers:{name}" for name in TYPES}
        executor = LocalExecutor(slots=slots, homes=homes, pythonpath=[*pythonpath, str(SUPPORT)], **settings)
        made.append(executor)
        return executor

    yield build
    for executor in made:
        executor.close(5.0)


def run(task_type: str, task_id: int = 1, **options: Any) -> Run:
    return Run(task_id, 1, task_type, "", "", options, None, f"{TEMP}/{task_id}")


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def exits(reports: Reports) -> list[WorkerGone]:
    return [report for report in reports.all if isinstance(report, WorkerGone)]


def test_the_mechanism_of_the_kill_is_named(make: MakeExecutor) -> None:
    assert make().capabilities.hard_kill_tree.startswith("a reaper per worker")


def test_capacity_grows_slot_by_slot(make: MakeExecutor) -> None:
    executor = make(slots=3)
    reports = Reports(executor)

    reports.capacity(3)

    told = [report.slots for report in reports.all if isinstance(report, CapacityChanged)]
    assert told == sorted(set(told))
    assert executor.capacity() == 3


def test_an_attempt_runs_on_a_worker_with_just_the_labels_that_its_order_names(make: MakeExecutor) -> None:
    executor = make(slots=2, labels={"gpu": 1})
    reports = Reports(executor)
    reports.until(lambda report: report == CapacityChanged(2, (("gpu",), ())))

    first, second = (replace(run(kind, number), offer=("gpu",)) for number, kind in enumerate(("patient", "noop"), 1))
    executor.do([first, second, run("noop", 3)])
    assert reports.end(3).outcome == "completed"
    executor.do([TellHeld(1)])
    held = reports.until(lambda report: isinstance(report, AttemptsHeld))
    assert isinstance(held, AttemptsHeld)
    assert sorted(held.attempts) == [(1, 1), (2, 1)], "the free worker does not offer what the second needs"
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"
    assert reports.end(2).outcome == "completed"


def test_an_attempt_is_told_how_many_cpus_it_may_keep_busy_beside_the_others(make: MakeExecutor) -> None:
    executor = make(slots=4, room=Room(6, memory=1000))
    reports = Reports(executor)
    executor.do([run("roomy", number) for number in range(1, 5)])
    ended = [reports.end(number).result for number in range(1, 5)]
    assert ended == [{"cores": cores, "memory": 1000} for cores in (6, 3, 2, 2)]
    executor.do([run("roomy", 5)])
    assert reports.end(5).result == {"cores": 6, "memory": 1000}


@pytest.mark.skipif(not sandbox_support().landlock, reason="attempts have no processes of their own here")
def test_the_memory_of_an_attempt_is_that_of_its_own_processes(make: MakeExecutor) -> None:
    """It is shown beside the estimate, which excludes the worker and its reapers."""
    before = psutil.Process().children(recursive=True)  # processes of earlier tests may end just now
    executor = make(sandbox=Sandbox(mode="auto"))
    reports = Reports(executor)
    executor.do([run("patient")])
    reports.until(lambda report: isinstance(report, AttemptProgressed))
    ((_key, resident),) = executor.memory().items()
    ours = [one for one in psutil.Process().children(recursive=True) if one not in before]
    (attempt,) = (one for one in ours if not one.children())
    assert resident == pytest.approx(attempt.memory_info().rss, rel=0.1)
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


@pytest.mark.parametrize("sandbox", [Sandbox(mode="off"), Sandbox(mode="auto")], ids=["free", "sandboxed"])
def test_an_attempt_at_work_is_told_when_others_come_and_go(make: MakeExecutor, sandbox: Sandbox) -> None:
    reports = Reports(executor := make(slots=2, room=Room(6), sandbox=sandbox))

    def said(cores: int) -> None:
        reports.until(
            lambda report: (
                isinstance(report, AttemptProgressed) and (report.task_id, report.message) == (1, f"{cores} CPUs")
            )
        )

    executor.do([run("sharing", 1)])
    said(6)
    executor.do([run("sharing", 2)])
    said(3)
    reports.all.clear()
    executor.do([Stop(2, 1)])
    said(6)
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


def test_an_attempt_stays_within_what_was_reserved_for_it(make: MakeExecutor) -> None:
    reports = Reports(executor := make(room=Room(2, memory=10**9)))
    executor.do([replace(run("roomy"), estimate=Estimated(memory=400_000_000))])
    assert reports.end(1).result == {"cores": 2, "memory": 500_000_000 + 16 * 1024 * 1024}


def test_slots_work_side_by_side(make: MakeExecutor) -> None:
    executor = make(slots=2)
    reports = Reports(executor)

    executor.do([run("patient", 1), run("patient", 2)])
    for task_id in (1, 2):
        reports.until(lambda report, n=task_id: isinstance(report, AttemptProgressed) and report.task_id == n)  # type: ignore[misc]
    executor.do([Stop(1, 1), Stop(2, 1)])

    assert {reports.end(1).outcome, reports.end(2).outcome} == {"stopped"}


def test_a_worker_is_recycled_after_so_many_attempts(make: MakeExecutor) -> None:
    executor = make(rules=SlotRules(recycle_after=3, recycle_age=0.0))
    reports = Reports(executor)

    executor.do([run("noop", number) for number in range(1, 8)])

    assert {reports.end(number).outcome for number in range(1, 8)} == {"completed"}
    assert [exited.why for exited in exits(reports)] == ["recycled", "recycled"]
    assert [report for report in reports.all if isinstance(report, CapacityChanged)][1:] == [CapacityChanged(1)]


def test_a_young_worker_is_not_recycled(make: MakeExecutor) -> None:
    executor = make(rules=SlotRules(recycle_after=3, recycle_age=3600.0))
    reports = Reports(executor)

    executor.do([run("noop", number) for number in range(1, 8)])

    assert reports.end(7).outcome == "completed"
    assert exits(reports) == []


def test_a_worker_that_has_grown_is_replaced_before_the_end_is_told(make: MakeExecutor) -> None:
    executor = make(rules=SlotRules(rss_limit=1))
    reports = Reports(executor)

    executor.do([run("noop")])

    assert reports.end(1).outcome == "completed"
    assert [exited.why for exited in exits(reports)] == ["replaced: its memory had grown"]


def test_memory_and_cpu_are_those_of_the_attempt(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)
    size = 100 * 1024 * 1024

    executor.do([run("hog", 1, count=size), run("noop", 2)])

    hog, noop = reports.end(1), reports.end(2)
    assert hog.memory_used > size > noop.memory_used > 0
    assert hog.cpu_used > noop.cpu_used >= 0


def test_what_other_types_have_loaded_is_not_charged_to_an_attempt(make: MakeExecutor) -> None:
    """A worker serves all types and keeps their libraries; an estimate is for one type alone."""
    executor = make()
    reports = Reports(executor)
    size = 100 * 1024 * 1024

    executor.do([run("noop", 1), run("library", 2, count=size), run("noop", 3), run("library", 4)])

    before, first, after, again = (reports.end(number).memory_used for number in (1, 2, 3, 4))
    assert first > size
    assert 0 < after < before + size / 4
    assert again > size, "its own libraries are its own"


def test_the_use_of_a_worker_that_died_is_known_as_well(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)

    executor.do([run("hog", 1, count=100_000_000), run("die", 2, shape="kill")])

    died = reports.end(2)
    assert 0 < died.memory_used < 100_000_000
    assert 0 <= died.cpu_used < reports.end(1).cpu_used + 1


def test_workers_see_no_secret_of_the_service(make: MakeExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SMTP_PASSWORD": "s3cret", "LC_TIME": "C", "WANTED": "yes", "PYTHONHASHSEED": "7"}.items():
        monkeypatch.setenv(name, value)
    executor = make(pass_environment=["WANTED"])
    reports = Reports(executor)

    executor.do([run("environment")])

    seen = reports.end(1).result
    assert "s3cret" not in str(seen)
    assert (seen["LC_TIME"], seen["WANTED"], seen["PYTHONHASHSEED"]) == ("C", "yes", "7")
    assert (seen["PATH"], seen["MALLOC_ARENA_MAX"], seen["TMPDIR"]) == (os.environ["PATH"], "2", f"{TEMP}/1")
    assert seen["TASKTRAIL_WORKER"]


def test_workers_are_nicer_than_their_reapers(make: MakeExecutor) -> None:
    executor = make(nice=3)
    reports = Reports(executor)

    executor.do([run("hog")])

    ours = os.getpriority(os.PRIO_PROCESS, 0)
    result = reports.end(1).result
    assert [os.getpriority(os.PRIO_PROCESS, result[who]) - ours for who in ("reaper", "pid")] == [0, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux chooses whom to kill when memory is out")
def test_when_memory_is_out_the_kernel_kills_a_worker_rather_than_the_service(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)

    executor.do([run("hog")])

    ours = int(Path("/proc/self/oom_score_adj").read_text())
    theirs = int(Path(f"/proc/{reports.end(1).result['pid']}/oom_score_adj").read_text())
    assert theirs == min(ours + 300, 1000)


@pytest.mark.skipif(sys.platform != "linux", reason="ranks of disk accesses are Linux's")
@pytest.mark.parametrize(("io", "rank"), [("low", (2, 7)), ("idle", (3, 0))])
def test_what_workers_read_and_write_ranks_as_asked(make: MakeExecutor, io: str, rank: tuple[int, int]) -> None:
    executor = make(io=io)
    reports = Reports(executor)

    executor.do([run("hog")])

    found = psutil.Process(reports.end(1).result["pid"]).ionice()
    assert (found.ioclass, found.value) == rank


def test_options_larger_than_a_pipe_arrive_whole(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)

    executor.do([run("echo", value="x" * 1_000_000)])

    assert reports.end(1).error_type == "BadAnswer"
    assert "The result has 1000" in reports.end(1).error


def test_nothing_is_ready_when_workers_cannot_start(make: MakeExecutor, tmp_path: Path) -> None:
    (tmp_path / "sample_handlers.py").touch()
    (tmp_path / "msgspec.py").write_text("raise ImportError('no such thing here')")
    executor = make(pythonpath=(str(tmp_path),), rules=SlotRules(backoff=0.01, backoff_max=0.02))
    reports = Reports(executor)
    executor.do([run("noop")])

    reports.until(lambda _: len(exits(reports)) >= 3)

    assert "no such thing here" in exits(reports)[0].why
    assert executor.capacity() == 0
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


def test_a_worker_that_never_gets_ready_is_replaced(make: MakeExecutor, tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("import time; time.sleep(600)")
    executor = make(pythonpath=(str(tmp_path),), rules=SlotRules(start_timeout=0.2))
    reports = Reports(executor)

    reports.until(lambda report: isinstance(report, WorkerGone))

    assert exits(reports)[0].why == "it was not ready in time"


def test_a_worker_that_dies_while_idle_costs_no_attempt(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)
    executor.do([run("hog", 1)])
    worker = reports.end(1).result["pid"]

    os.kill(worker, signal.SIGKILL)
    reports.until(lambda report: isinstance(report, WorkerGone))
    executor.do([run("noop", 2)])

    assert reports.end(2).outcome == "completed"
    assert exits(reports) == [WorkerGone(worker, -9, "it died")]


def test_signals_of_the_terminal_do_not_disturb_a_worker(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)
    executor.do([run("hog", 1)])
    worker = reports.end(1).result["pid"]

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker, number)
    executor.do([run("hog", 2)])

    assert reports.end(2).result["pid"] == worker


@pytest.mark.parametrize("sandbox", [Sandbox(mode="off"), Sandbox(mode="auto")], ids=["free", "sandboxed"])
def test_a_process_that_an_attempt_has_forked_can_be_terminated(make: MakeExecutor, sandbox: Sandbox) -> None:
    """It survived SIGTERM as the attempt itself does, so a handler with a `multiprocessing.Pool` hung at its end."""
    reports = Reports(executor := make(sandbox=sandbox))

    executor.do([run("terminate")])

    assert reports.end(1).result == {"exit code": -signal.SIGTERM}


_NO_SHM = "a sandbox has no /dev/shm here, which a pool needs, as in some chroots and containers"
_WITH_SHM = pytest.mark.skipif(not sandbox_support().own_proc, reason=_NO_SHM)


@pytest.mark.parametrize("kind", ["fork", "spawn"])
@pytest.mark.parametrize(
    "sandbox",
    [pytest.param(Sandbox(mode="off"), id="free"), pytest.param(Sandbox(mode="auto"), id="sandboxed", marks=_WITH_SHM)],
)
def test_a_stop_ends_programs_and_lets_a_pool_finish_its_item(make: MakeExecutor, sandbox: Sandbox, kind: str) -> None:
    """SIGTERM ended the processes of the pool, too, and `map` waited for ever for what they had begun."""
    reports = Reports(executor := make(sandbox=sandbox))
    executor.do([replace(run("pool", shape=kind), grace=60.0)])
    reports.until(lambda report: isinstance(report, AttemptProgressed))

    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"
    saved = [report.checkpoint for report in reports.all if isinstance(report, AttemptCheckpointed)]
    assert [checkpoint.data for checkpoint in saved] == [{"made": ["done"], "tool": -signal.SIGTERM}]


_DECORATING = "def twice(run):\n    def decorated(context):\n        return run(context)\n    return decorated"
_DECORATED = """
from decorating import twice
from tasktrail.handlers import handler

@handler("decorated")
@twice
def work(context):
    raise OSError("no line of its own")
"""


def test_the_place_of_an_error_is_in_the_package_of_the_type_although_another_decorates_it(tmp_path: Path) -> None:
    """Of an installed package, nothing but the type's home tells that it is not a library of its decorator's."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "decorating.py").write_text(_DECORATING)
    (site / "decorated_app.py").write_text(_DECORATED)
    executor = LocalExecutor(slots=1, homes={"decorated": "decorated_app:work"}, pythonpath=[str(site)])
    reports = Reports(executor)
    try:
        executor.do([run("decorated")])
        ended = reports.end(1)
    finally:
        executor.close(5.0)

    assert ended.error == "no line of its own (decorated_app.py:8)"


def test_a_reporter_that_fails_is_logged_and_called_again(make: MakeExecutor) -> None:
    executor = make()
    seen: list[Report] = []

    class Failing(Reports):
        def _take(self, reports: list[Report]) -> None:
            super()._take(reports)
            seen.extend(reports)
            raise RuntimeError("scheduler is ill")

    with capture_logs() as logs:
        reports = Failing(executor)
        executor.do([run("noop")])
        assert reports.end(1).outcome == "completed"
        executor.close(5.0)

    assert {entry["event"] for entry in logs} == {"executor_report_failed"}


def test_a_closed_executor_ends_new_runs_and_may_be_closed_again(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)
    reports.capacity(1)

    executor.close(5.0)
    executor.close(5.0)

    assert [report for report in reports.all if isinstance(report, AttemptEnded)] == []


def test_descriptors_are_given_back(make: MakeExecutor) -> None:
    gc.collect()
    before = open_descriptors()
    executor = make(rules=SlotRules(recycle_after=1, recycle_age=0.0))
    reports = Reports(executor)

    executor.do([run("noop", number) for number in range(1, 6)])
    reports.end(5)
    executor.close(5.0)

    assert open_descriptors() <= before


# --- planted faults -------------------------------------------------------------------------------------------------


def test_a_result_that_slips_past_the_check_fails_the_attempt_and_not_the_worker(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)
    executor.do([run("bare"), run("noop", task_id=2)])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("failed", "BadAnswer")
    assert reports.end(2).outcome == "completed"
    assert exits(reports) == []


def test_an_order_that_breaks_costs_no_other_one(make: MakeExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = make()
    reports = Reports(executor)
    reports.capacity(1)
    give = Slot.give

    def broken(self: Slot, order: Run, frame: bytes) -> bool:
        if order.task_id == 1:
            executor._waiting.pop((1, 1))  # and it is forgotten, too
            raise RuntimeError("planted")
        return give(self, order, frame)

    monkeypatch.setattr(Slot, "give", broken)
    with capture_logs() as logs:
        executor.do([run("noop"), run("noop", task_id=2), TellHeld(1)])
        assert reports.end(2).outcome == "completed"
    assert {entry["event"] for entry in logs} == {"order_failed", "slot_found"}
    held = reports.until(lambda report: isinstance(report, AttemptsHeld))
    assert isinstance(held, AttemptsHeld)
    assert (1, 1) not in held.attempts


def test_what_it_has_forgotten_beside_its_slots_is_put_right(make: MakeExecutor) -> None:
    executor = make()
    reports = Reports(executor)
    executor.do([run("patient")])
    reports.until(lambda report: isinstance(report, AttemptProgressed))
    executor._attempts.clear()

    executor.do([TellHeld(1), Stop(1, 1)])

    assert reports.until(lambda report: report == AttemptsHeld(1, ((1, 1),)))
    assert reports.end(1).outcome == "stopped"


def test_a_slot_that_was_not_started_again_is_found(make: MakeExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = make()
    reports = Reports(executor)
    reports.capacity(1)
    monkeypatch.setattr(executor, "empty", lambda _slot, _delay: None)
    executor.do([run("die", shape="exit")])
    reports.end(1)
    monkeypatch.undo()

    with capture_logs():
        executor.do([TellHeld(1), run("noop", task_id=2)])
        assert reports.end(2).outcome == "completed"


@pytest.mark.parametrize("shape", ["unsigned", "nan"])
def test_a_report_that_cannot_be_recorded_replaces_the_worker_and_ends_the_attempt(
    make: MakeExecutor, shape: str
) -> None:
    executor = make()
    reports = Reports(executor)
    executor.do([run("garbage", shape=shape)])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("lost", "ProtocolError")
    executor.do([run("noop", task_id=2)])
    assert reports.end(2).outcome == "completed"


def test_whoever_gives_orders_never_waits_for_the_executors_thread(make: MakeExecutor) -> None:
    """The thread may be starting a process just then. It carries the orders out itself afterwards, in sequence."""
    executor = make()
    reports = Reports(executor)
    reports.capacity(1)
    given = threading.Event()

    def give() -> None:
        executor.do([run("patient")])
        executor.do([Stop(1, 1)])
        given.set()

    with executor.lock:
        threading.Thread(target=give).start()
        assert given.wait(20), "it waits"
    assert reports.end(1).outcome == "stopped"
