"""A service in a control group with too little memory for all its attempts at once: the kernel kills some."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import served

from tasktrail import Client
from tasktrail.actors.machine import find_groups

pytestmark = pytest.mark.crash

LIMIT = 1_200_000_000
TASKS = 5
HANDLERS = """
import time

from tasktrail import task


@task
def large(steps: int) -> int:
    held = []
    for _ in range(steps):
        held.append(b"x" * 20_000_000)
        time.sleep(0.05)  # so that several grow side by side
    return len(held)
"""
_IN_GROUP = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with that little memory, without swap."""
    memory = find_groups().memory
    if memory is None:
        pytest.skip("this system limits no memory")
    folder = memory.folders[0] / f"tasktrail-test-{os.getpid()}"
    names = {1: ("memory.limit_in_bytes", "memory.swappiness"), 2: ("memory.max", "memory.swap.max")}[memory.version]
    try:
        folder.mkdir()
        (folder / names[0]).write_text(str(LIMIT))
        (folder / names[1]).write_text("0")
    except OSError:
        pytest.skip("only root may limit memory, and not in every container")
    try:
        yield folder
    finally:
        folder.rmdir()


def test_attempts_that_ran_out_of_memory_together_end_one_after_another(group: Path, tmp_path: Path) -> None:
    """Four run side by side, and each grows to half of the limit. Killed together each time, they became poison."""
    (tmp_path / "own.py").write_text(HANDLERS)
    data = tmp_path / "data"
    data.mkdir()
    (data / "tasktrail.toml").write_text('workers = 4\nhandlers = ["own"]\n')
    in_group = ("-c", _IN_GROUP, str(group / "cgroup.procs"), sys.executable, "-m", "tasktrail")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with served(data, tmp_path / "errors", program=in_group, environment=environment), Client.connect(data) as client:
        ids = [client.create_task("large", options={"steps": 30}) for _ in range(TASKS)]
        ended = [client.wait(task_id, timeout=200) for task_id in ids]
        attempts = sum(one.attempt for one in ended)
    assert [(one.status, one.error) for one in ended] == [("completed", "")] * TASKS
    assert attempts > TASKS, "the kernel killed none, so nothing was tried"
    command = [sys.executable, "-m", "tasktrail", "--data", str(data), "--json", "log"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    retried = [json.loads(line) for line in log.splitlines() if '"retried"' in line]
    assert any(record["data"].get("estimate", {}).get("memory", 0) > LIMIT // 5 for record in retried)
