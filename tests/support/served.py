"""A service on a port, as `tasktrail serve` starts it, for attacks that come from outside."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_STARTS_WITHIN, _ENDS_WITHIN = 300, 60
"""Seconds."""


@contextmanager
def served(
    data: Path,
    errors: Path,
    *more: str,
    program: Sequence[str] = ("-m", "tasktrail"),
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The process and the address of its port; `errors` gets what it writes to standard error, `more` goes to it."""
    command = [sys.executable, *program, "--data", str(data), *more, "--json", "serve", "--port", "0"]
    with errors.open("wb") as sink:
        process = subprocess.Popen(command, stderr=sink, env=environment)
    try:
        deadline = time.monotonic() + _STARTS_WITHIN
        while b'"ready"' not in errors.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service has not started: {errors.read_text()[-2000:]}")
            time.sleep(0.1)
        line = next(line for line in errors.read_text().splitlines() if '"ready"' in line)
        yield process, str(json.loads(line)["address"])
    finally:
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
