"""What a worker starts with, and how the processes of a killed reaper are found again."""

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tasktrail.actors.workers.reactor import Reactor
from tasktrail.actors.workers.worker_process import (
    MARK,
    LaunchSettings,
    WorkerProcess,
    family,
    kill_marked,
    launch,
    open_shared_lock,
    wait_for_orphans,
    worker_environment,
)


def test_a_worker_finds_the_modules_that_the_service_finds_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = {"PYTHONPATH": os.pathsep.join([".", "lib", "", "/opt/lib"])}

    environment = worker_environment(["/ours"], [], source)

    expected = ["/ours", str(tmp_path), str(tmp_path / "lib"), "/opt/lib"]
    assert environment["PYTHONPATH"].split(os.pathsep) == expected


def test_a_worker_sees_the_variables_of_the_list_and_those_that_are_passed_on() -> None:
    source = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "WANTED": "1", "TASKTRAIL_WEBHOOK_SECRET": "hidden"}

    environment = worker_environment([], ["WANTED"], source)

    assert environment.keys() == {"PATH", "LC_ALL", "WANTED", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"}


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def strays() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start processes marked `12:a`, `123:a` and not at all; return when each has answered and shows its mark."""
    marks: list[dict[str, str]] = [{MARK: "12:a"}, {MARK: "123:a"}, {}]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(["/bin/cat"], env=mark, stdin=pipe, stdout=pipe, bufsize=0) for mark in marks]
    for process in started:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"?")
        assert process.stdout.read(1) == b"?"
    yield started
    for process in started:
        with process:
            process.kill()


def test_only_processes_of_the_family_are_killed(strays: list["subprocess.Popen[bytes]"]) -> None:
    assert kill_marked("12:") == 1

    assert strays[0].wait(10) == -9
    assert [process.poll() for process in strays[1:]] == [None, None]
    assert kill_marked("12:") == 0


def test_two_lock_files_are_two_families(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).touch()

    assert family(tmp_path / "one") != family(tmp_path / "two")
    assert family(tmp_path / "one").endswith(":")


def test_the_lock_is_free_once_all_holders_are_gone(tmp_path: Path) -> None:
    lock = tmp_path / "workers.lock"
    first, second = open_shared_lock(lock), open_shared_lock(lock)

    assert not wait_for_orphans(lock, 0.0)
    os.close(first)
    assert not wait_for_orphans(lock, 0.0)
    os.close(second)
    assert wait_for_orphans(lock, 0.0)


@pytest.mark.parametrize("last", ["socketpair", "memfd_create", "Popen"])
def test_a_start_that_fails_halfway_leaves_nothing_open(last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    owner = {"socketpair": socket, "memfd_create": os, "Popen": subprocess}[last]
    monkeypatch.setattr(owner, last, refuse)
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers

    with pytest.raises(OSError, match="too many open files"):
        launch(LaunchSettings(lock=None, environment={}, family="0:", credentials=b"{}"))

    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - numbers


@pytest.mark.parametrize("watched", [0, 1])
def test_a_worker_that_cannot_be_listened_to_is_let_go(watched: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel bounds what one user may watch."""
    reactor = Reactor(lambda: None)
    really, left = reactor.on_readable, [None] * watched

    def refuse(fd: int, call: Callable[[], None]) -> None:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        really(fd, call)

    def nobody(said: object) -> NoReturn:
        raise AssertionError(f"nobody listens, and there was {said}")

    monkeypatch.setattr(reactor, "on_readable", refuse)
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers
    launched = launch(LaunchSettings(lock=None, environment={}, family="0:"))

    with pytest.raises(OSError, match="No space left"):
        WorkerProcess(
            launched,
            reactor,
            threading.RLock(),
            on_frame=nobody,
            on_garbage=nobody,
            on_exit=nobody,
        )

    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - numbers
    assert launched.reaper.wait(30) is not None
    assert reactor._selector.get_map().keys().isdisjoint((launched.report, launched.status))
    reactor.dispose()
