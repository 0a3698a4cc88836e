"""Attempts in real processes, for the tests of every type."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest

CHILD = Path(__file__).with_name("attempt_child.py")
SUPPORT = Path(__file__).parent.parent / "support"


class Attempt(NamedTuple):
    """What a child reported before it ended."""

    saved: list[int]
    """`processed_frames` of each checkpoint."""
    steps: int
    """The number of times it asked whether to stop."""
    ended: str
    """The outcome's class; empty if it was killed."""
    peak: int = 0
    """The peak of resident memory in bytes, on Linux; 0 if it was killed."""


def attempt(
    home: str,
    source: Path,
    output: Path,
    options: Mapping[str, Any] = MappingProxyType({}),
    kill_at: int | None = None,
) -> Attempt:
    """Run a handler in a separate process; its work folder lies beside `output`.

    It waits at each step, and is killed within a step or so of step `kill_at`.
    """
    folder = output.with_name(f"{output.name}.work")
    folder.mkdir(exist_ok=True)
    given = msgspec.json.encode(dict(options)).decode()
    command = [sys.executable, str(CHILD), home, given, str(source), str(output), str(folder)]
    saved, steps, ended, peak = [], 0, "", 0
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it takes memory
    plain["PYTHONPATH"] = str(SUPPORT)
    plain["MALLOC_MMAP_THRESHOLD_"] = str(16 * 1024 * 1024)
    plain["MALLOC_ARENA_MAX"] = "2"  # as the executor sets it: otherwise memory depends on the load of the machine
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            match line.split():
                case ["saved", frames]:
                    saved.append(int(frames))
                case ["step"]:
                    steps += 1
                    if kill_at is None or steps <= kill_at:
                        child.stdin.write("go on\n")
                        child.stdin.flush()
                case ["peak", size]:
                    peak = int(size)
                case ["ended", outcome]:
                    ended = outcome
            if kill_at is not None and steps >= kill_at:
                child.kill()
    return Attempt(saved, steps, ended, peak)


@pytest.fixture(scope="session")
def run_attempt() -> Callable[..., Attempt]:
    """See `attempt`."""
    return attempt
