"""One service per data folder."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasktrail.actors.workers.worker_process import wait_for_orphans
from tasktrail.events.errors import DataInUse, InvalidPath
from tasktrail.events.log.lock import DataLock, announce, holder, role, withdraw


def test_a_second_lock_is_refused_and_says_who_holds_the_first(tmp_path: Path) -> None:
    with DataLock(tmp_path / "lock"), pytest.raises(DataInUse, match=f"pid {os.getpid()}"):
        DataLock(tmp_path / "lock")


def test_a_lock_that_was_let_go_can_be_taken_again(tmp_path: Path) -> None:
    DataLock(tmp_path / "lock").release()
    with DataLock(tmp_path / "lock"):
        pass


def test_letting_go_twice_does_no_harm(tmp_path: Path) -> None:
    lock = DataLock(tmp_path / "lock")
    lock.release()
    lock.release()
    with DataLock(tmp_path / "lock"):
        lock.release()
        with pytest.raises(DataInUse):
            DataLock(tmp_path / "lock")


def test_the_file_of_a_service_that_is_gone_stands_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("pid 999999 on elsewhere\n")
    with DataLock(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text().startswith(f"pid {os.getpid()} ")


_KILLED = """
import os, signal, subprocess, sys
from pathlib import Path
from tasktrail.events.log.lock import DataLock
lock = DataLock(Path(sys.argv[1]))
subprocess.Popen(["cat"], pass_fds=[lock._fd], stdout=subprocess.DEVNULL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "say", [lambda _path: None, lambda path: announce(path, "serve")], ids=["at once", "announced"]
)
@pytest.mark.parametrize("known", ["to its parent", "to nobody yet"])
def test_a_process_that_was_killed_while_it_began_another_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[Path], object], known: str
) -> None:
    """The other has the lock until its own program is loaded; here it is `cat`, which ends with its input.

    Until its parent asks for it, the killed one still has its number.
    """
    reading, writing = os.pipe()
    path = tmp_path / "lock"
    killed = subprocess.Popen([sys.executable, "-c", _KILLED, str(path)], stdin=reading)
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    if known == "to its parent":
        assert killed.wait() == -signal.SIGKILL
    os.close(reading)
    say(path)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        if not pauses:
            os.close(writing)
        pauses.append(seconds)
        real_sleep(seconds)

    real_sleep = time.sleep
    monkeypatch.setattr("tasktrail.events.log.lock.time.sleep", pause)
    monkeypatch.setattr("tasktrail.events.log.lock._WITHIN", 60.0)
    with DataLock(path):
        assert pauses
    assert killed.wait() == -signal.SIGKILL


def test_a_process_that_holds_the_lock_of_a_killed_one_for_good_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    path = tmp_path / "lock"
    subprocess.run([sys.executable, "-c", _KILLED, str(path)], stdin=reading, check=False)
    monkeypatch.setattr("tasktrail.events.log.lock._WITHIN", 0.0)
    with pytest.raises(DataInUse):
        DataLock(path)
    os.close(writing)
    os.close(reading)


def test_a_folder_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidPath):
        DataLock(tmp_path / "missing" / "lock")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "for writing"),
        (errno.EACCES, "chown -R USER DATA && chmod -R u+rwX DATA"),
        (errno.ENOTDIR, "Check"),
    ],
)
@pytest.mark.parametrize("take", [DataLock, lambda path: wait_for_orphans(path, 0)], ids=["the service", "its workers"])
def test_a_lock_that_cannot_be_opened_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: Callable[[Path], object], number: int, remedy: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InvalidPath) as refused:
        take(tmp_path / "lock")
    monkeypatch.undo()
    assert os.strerror(number) in refused.value.message
    assert remedy.replace("DATA", str(tmp_path)) in refused.value.advice


@pytest.mark.parametrize("other", ["link", "pipe"])
def test_nothing_is_written_through_a_link_or_into_a_pipe_in_place_of_the_lock(tmp_path: Path, other: str) -> None:
    """Root may work in the folder of a user, who can lay a link there to any file."""
    path, precious = tmp_path / "lock", tmp_path / "passwd"
    precious.write_text("root:x:0:0:root:/root:/bin/sh\n")
    if other == "link":
        path.symlink_to(precious)
    else:
        os.mkfifo(path)

    announce(path, "run")
    with pytest.raises(InvalidPath, match="cannot be opened") as refused:
        DataLock(path)
    assert "Remove it" in refused.value.advice
    assert (holder(path), role(path)) == (None, "")
    assert precious.read_text() == "root:x:0:0:root:/root:/bin/sh\n"


def test_a_service_on_its_way_names_itself_but_not_in_place_of_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "data" / "lock"
    announce(path, "serve")
    assert holder(path) == os.getpid()
    path.write_text(f"pid {os.getppid()} on {socket.gethostname()}\n")
    announce(path, "serve")
    assert holder(path) == os.getppid()
    path.write_text("pid 999999 on elsewhere, and much longer than the line that follows\n")
    announce(path, "serve")
    assert path.read_text() == f"pid {os.getpid()} on {socket.gethostname()} as serve\n"
    with DataLock(path):
        assert (holder(path), role(path)) == (os.getpid(), "serve")
    with DataLock(path):
        assert role(path) == "program"
    with DataLock(path, "restore"):
        assert role(path) == "restore"


def test_a_service_that_starts_beside_a_short_command_is_named_as_what_it_is_once_it_has_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(f"pid {os.getppid()} on {socket.gethostname()} as program\n")  # it opens the folder for a moment
    announce(path, "serve")
    path.write_text("")
    with DataLock(path):
        assert (holder(path), role(path)) == (os.getpid(), "serve")


def test_to_announce_where_nobody_may_write_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    announce(tmp_path / "file" / "lock", "serve")


def test_what_was_announced_can_be_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "far" / "data" / "lock"
    withdraw(path, announce(path, "serve"))
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_has_or_needs_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "data" / "lock"
    made = announce(path, "serve")
    with DataLock(path, "restore"):
        withdraw(path, made)
        assert role(path) == "restore"
    path.write_text(f"pid {os.getppid()} on {socket.gethostname()} as serve\n")  # it has announced itself
    withdraw(path, made)
    assert holder(path) == os.getppid()

    path.unlink()
    made = announce(path, "serve")
    (path.parent / "log.db").touch()
    withdraw(path, made)
    assert path.exists()

    (path.parent / "log.db").unlink()
    withdraw(path, announce(path, "serve"))  # the folder existed before
    assert path.exists()


def test_a_lock_on_a_file_that_was_taken_away_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was opened before another process removed it: a process that comes later would get a lock, too."""
    path = tmp_path / "lock"
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with DataLock(path), pytest.raises(DataInUse):
        DataLock(path)
