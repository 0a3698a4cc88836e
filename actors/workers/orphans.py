"""Finding what a keeper could not clear up: because it still does, or because it was killed itself."""

import fcntl
import os
import signal
import time
from pathlib import Path

MARK = "TASKTRAIL_WORKER"
"""Environment variable that every worker has and hands on to what it starts."""

_PAUSE = 0.01


def open_shared_lock(path: Path) -> int:
    """A descriptor with a shared lock on the file. Whoever inherits it holds the lock until all of them are gone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def family(path: Path) -> str:
    """How the marks of all workers under this lock file begin. The end sign keeps file 12 apart from file 123."""
    stat = path.stat()
    return f"{stat.st_dev:x}-{stat.st_ino:x}:"


def wait_for_orphans(path: Path, timeout: float) -> bool:
    """Wait until no process of an earlier service is left; to be called before new work begins.

    Keepers hold a shared lock on the file until their tree is gone. Whatever escaped a killed keeper is found by its
    mark and killed (Linux). False when something is still there after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try_lock(fd) or kill_marked(family(path)):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE)
    finally:
        os.close(fd)
    return True


def kill_marked(mark: str) -> int:
    """Kill every process whose mark begins so; tells how many there were. Nothing where there is no `/proc`."""
    needle = f"{MARK}={mark}".encode()
    found = 0
    for entry in Path("/proc").glob("[1-9]*"):
        if entry.name == str(os.getpid()):
            continue
        try:
            marked = needle in (entry / "environ").read_bytes()
        except OSError:
            continue
        if marked:
            found += 1
            _kill(int(entry.name))
    return found


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
