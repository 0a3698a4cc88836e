"""What a worker process is started with."""

import os
from pathlib import Path

import pytest

from tasktrail.actors.workers.worker_process import worker_environment


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
