"""A Projector whose process folds whatever comes."""

import subprocess
from typing import Any

import pytest

from tasktrail.actors import projector, projector_process
from tasktrail.actors.side_process import start_side_process


def note_processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """Have a process fold however few records come, also on one processor. Returns the processes that are started."""
    monkeypatch.setattr("tasktrail.system.usable_cpus", lambda: 2)
    monkeypatch.setattr(projector, "BUSY", 0)
    monkeypatch.setattr(projector, "A_BURST", 1)
    monkeypatch.setattr(projector, "CALM", 0)
    monkeypatch.setattr(projector_process, "_IDLE", 60.0)
    started = list[subprocess.Popen[str]]()

    def note(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        started.append(start_side_process(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(projector_process, "start_side_process", note)
    return started
