"""A command that a signal ends leaves nothing half-written, and is seen to have died of the signal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from histories import BEGIN, Journal

from tasktrail.cli.failing import INTERRUPTED
from tasktrail.events import Created
from tasktrail.events.log.sqlite import SqliteEventLog

_HELD_UP = """
import signal
import {module} as module
from tasktrail.__main__ import main

def hold(*_arguments, **_named):
    print("at work", flush=True)
    while True:
        pass

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
module.{name} = hold
main()
"""
"""The command line, where one function never returns.

It waits in no system call, because one that begins after the signal would not be interrupted. Programs started in the
background, or by `nohup`, ignore signals."""


def end(arguments: list[str], module: str, name: str, sign: signal.Signals) -> int:
    """Start a command, send it the signal in the middle of that function, and return how it ended."""
    program = [sys.executable, "-c", _HELD_UP.format(module=module, name=name), *arguments]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "at work\n"
        process.send_signal(sign)
        return process.wait(60)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    log = SqliteEventLog(folder / "log.db", now=BEGIN)
    Journal(log).record(1, Created(type="noop"))
    log.close()
    return folder


@pytest.mark.parametrize(
    ("command", "module", "name"),
    [
        (["backup"], "tasktrail.backups.backup", "copy_log"),
        (["log", "export", "--out"], "tasktrail.exports.file", "write_rows"),
    ],
)
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_half_written_stays(
    tmp_path: Path, data: Path, command: list[str], module: str, name: str, sign: signal.Signals
) -> None:
    place = tmp_path / "copies"
    place.mkdir()
    code = end(["--data", str(data), *command, str(place / "copy")], module, name, sign)
    assert code == (INTERRUPTED if sign == signal.SIGINT else -sign)
    assert list(place.iterdir()) == []


_IN_A_CALLBACK = """
import signal
import sys
import weakref
import tasktrail.cli.app as app
from tasktrail.__main__ import main

class Gone:
    pass

def run(_arguments):
    thing = Gone()
    kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.{sign}))
    del thing
    try:
        for _ in range(100_000_000):
            pass
    except KeyboardInterrupt:
        return 130
    return 0

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
app.run = run
main()
"""
"""Imports run Python's own callbacks, and an exception raised in one is dropped."""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_falls_into_a_callback_is_not_lost(sign: signal.Signals) -> None:
    program = [sys.executable, "-c", _IN_A_CALLBACK.format(sign=sign.name)]
    code = subprocess.run(program, timeout=60, stderr=subprocess.DEVNULL, check=False).returncode
    assert code == (INTERRUPTED if sign == signal.SIGINT else -sign)
