"""Whatever a handler starts, and whichever process is killed: nothing is left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from inline_executor import Reports

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.actors.workers.worker_process import wait_for_orphans
from tasktrail.events.reports import Run, Stop, WorkerGone

pytestmark = [pytest.mark.crash, pytest.mark.skipif(sys.platform != "linux", reason="needs a sub-reaper and /proc")]

WITHIN = 30.0
SERVICE = Path(__file__).parent.parent / "support" / "kept_service.py"
SHAPES = ["plain", "deaf", "session", "grandchild", "daemon"]
WaitGone: TypeAlias = Callable[[list[int], float], float]
Pids: TypeAlias = Callable[[], list[int]]


@pytest.mark.parametrize("shape", [*SHAPES, "bare"])
def test_nothing_is_left_when_an_attempt_that_ignores_the_stop_is_reported_stopped(
    *, executor: LocalExecutor, reports: Reports, run: Callable[..., Run], pids: Pids, wait_gone: WaitGone, shape: str
) -> None:
    executor.do([run("parent", shape=shape)])
    tree = pids()

    executor.do([Stop(1, 1)])
    ended = reports.end(1)

    assert ended.outcome == "stopped"
    wait_gone(tree, 0.0)


@pytest.mark.parametrize("shape", [*SHAPES, "bare"])
def test_nothing_is_left_when_a_killed_worker_is_reported_lost(
    *, executor: LocalExecutor, reports: Reports, run: Callable[..., Run], pids: Pids, wait_gone: WaitGone, shape: str
) -> None:
    executor.do([run("parent", shape=shape)])
    tree = pids()

    os.kill(tree[0], signal.SIGKILL)
    ended = reports.end(1)

    assert (ended.outcome, ended.error_type) == ("lost", "WorkerLost")
    assert "signal 9 (SIGKILL)" in ended.error
    wait_gone(tree, 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_left_when_even_the_reaper_was_killed(
    *, executor: LocalExecutor, reports: Reports, run: Callable[..., Run], pids: Pids, wait_gone: WaitGone, shape: str
) -> None:
    executor.do([run("parent", shape=shape)])
    tree = pids()

    os.kill(tree[1], signal.SIGKILL)
    ended = reports.end(1)

    assert (ended.outcome, "reaper" in ended.error) == ("lost", True)
    wait_gone(tree, 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_left_when_the_service_was_killed(tmp_path: Path, wait_gone: WaitGone, shape: str) -> None:
    lock = tmp_path / "workers.lock"
    tree = kill_service(lock, shape)

    assert wait_for_orphans(lock, WITHIN)

    wait_gone(tree, 0.0)


def test_a_forked_copy_of_the_service_keeps_no_worker_alive(tmp_path: Path, wait_gone: WaitGone) -> None:
    """The copy holds the lifeline open, so that its end of file never comes."""
    tree = kill_service(tmp_path / "workers.lock", "session", "fork")

    wait_gone(tree, WITHIN)


def test_a_new_service_finds_what_escaped_when_service_and_reapers_were_killed(
    tmp_path: Path, wait_gone: WaitGone
) -> None:
    lock = tmp_path / "workers.lock"
    tree = kill_service(lock, "daemon", reaper_too=True)

    assert wait_for_orphans(lock, WITHIN)

    wait_gone(tree, 0.0)


def test_a_worker_dies_with_its_reaper_even_when_nobody_looks(tmp_path: Path, wait_gone: WaitGone) -> None:
    with start_service(tmp_path / "workers.lock", "plain") as service:
        tree = read_tree(service)
        service.send_signal(signal.SIGSTOP)

        os.kill(tree[1], signal.SIGKILL)

        wait_gone(tree[:2], WITHIN)
        service.kill()
    assert wait_for_orphans(tmp_path / "workers.lock", WITHIN)


def test_the_reaper_holds_the_lock_and_its_worker_does_not(
    executor: LocalExecutor, run: Callable[..., Run], pids: Pids, tmp_path: Path
) -> None:
    executor.do([run("parent", shape="plain")])
    worker, reaper, child = pids()

    def holds_lock(pid: int) -> bool:
        # `resolve` tolerates a descriptor that is closed while we look.
        lock = (tmp_path / "workers.lock").resolve()
        return any(fd.resolve() == lock for fd in Path(f"/proc/{pid}/fd").iterdir())

    assert [holds_lock(reaper), holds_lock(worker), holds_lock(child)] == [True, False, False]


def test_waiting_for_orphans_gives_up_in_time(reports: Reports, tmp_path: Path) -> None:
    reports.capacity(1)

    assert not wait_for_orphans(tmp_path / "workers.lock", 0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_end_is_told_only_after_what_the_handler_left_running_is_gone(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], wait_gone: WaitGone, shape: str
) -> None:
    executor.do([run("leave", shape=shape)])

    ended = reports.end(1)

    assert ended.outcome == "completed"
    wait_gone(ended.result["pids"], 0.0)
    executor.do([run("noop", task_id=2)])
    assert reports.end(2).outcome == "completed"


def test_fifty_children_are_gone_as_well(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], pids: Pids, wait_gone: WaitGone
) -> None:
    executor.do([run("parent", shape="session", count=50)])
    tree = pids()

    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"
    assert len(tree) == 52
    wait_gone(tree, 0.0)


def test_closing_kills_every_tree(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], pids: Pids, wait_gone: WaitGone
) -> None:
    executor.do([run("parent", shape="grandchild")])
    tree = pids()

    executor.close(5.0)

    assert reports.end(1).outcome == "stopped"
    wait_gone(tree, 0.0)


def test_closing_does_not_wait_for_a_reaper_that_hangs(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], pids: Pids, wait_gone: WaitGone
) -> None:
    executor.do([run("parent", shape="session")])
    tree = pids()
    os.kill(tree[1], signal.SIGSTOP)

    executor.close(0.1)

    assert reports.end(1).outcome == "stopped"
    wait_gone(tree, 0.0)


def test_a_worker_that_was_told_to_end_is_shown_with_the_reason(
    executor: LocalExecutor, reports: Reports, run: Callable[..., Run], pids: Pids
) -> None:
    executor.do([run("parent", shape="plain")])
    worker = pids()[0]

    executor.do([Stop(1, 1)])

    exited = reports.until(lambda report: isinstance(report, WorkerGone))
    assert exited == WorkerGone(worker, -9, "stopped: its grace was over")


def kill_service(lock: Path, shape: str, *extra: str, reaper_too: bool = False) -> list[int]:
    """Start the little service, kill -9 it in mid-attempt, and return the processes that its attempt had."""
    with start_service(lock, shape, *extra) as service:
        tree = read_tree(service)
        service.send_signal(signal.SIGSTOP)
        if reaper_too:
            os.kill(tree[1], signal.SIGKILL)
    return tree


@contextmanager
def start_service(lock: Path, shape: str, *extra: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the little service; it is killed at the end, whatever its state."""
    command = [sys.executable, str(SERVICE), str(lock), shape, *extra]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            yield service
        finally:
            service.kill()


def read_tree(service: "subprocess.Popen[str]") -> list[int]:
    """Return worker, reaper and children of the service's attempt."""
    assert service.stdout is not None
    tree: list[int] = json.loads(service.stdout.readline())
    return tree
