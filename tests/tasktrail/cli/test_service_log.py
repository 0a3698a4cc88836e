"""The output of `tasktrail serve` on standard error: every line, from the first to the last."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasktrail import Client
from tasktrail.events.errors import TasktrailError

SUPPORT = Path(__file__).parents[2] / "support"
WITHIN = 60.0

Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def serve(data: Path) -> Iterator[Serve]:
    """Start a service on `data`; a process still running at the end is killed."""
    data.mkdir(mode=0o700)
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, path: str = "", **settings: str) -> "subprocess.Popen[str]":
        named = {"HANDLERS": "printing_handlers", "WORKERS": "1", "LOG_FORMAT": "json", **settings}
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(SUPPORT), path))),
            **{f"TASKTRAIL_{name}": value for name, value in named.items()},
        }
        command = [sys.executable, "-m", "tasktrail", "serve", "--data", str(data), *arguments]
        process = subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until_ready(process: "subprocess.Popen[str]") -> list[str]:
    """Return the lines up to the one that says `ready`."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "ready" in line:
            return lines
    raise AssertionError(f"it ended before it was ready: {lines}")


def until_ended(process: "subprocess.Popen[str]") -> list[str]:
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=WITHIN)
    return rest.splitlines()


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_what_a_handler_prints_at_its_import_is_a_line_too(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import sys\nprint('hello', end='')\nprint(' there')\nprint('oh', file=sys.stderr)\n"
    )
    process = serve(path=str(tmp_path), HANDLERS="printing_handlers,noisy")
    lines = until_ready(process)
    told = objects([*lines, *until_ended(process)])
    assert [(line["text"], line["stream"]) for line in told if line["event"] == "printed"] == [
        ("hello there", "stdout"),
        ("oh", "stderr"),
    ]


@pytest.mark.slow
def test_every_line_is_json_and_tells_what_happens_to_whom(serve: Serve, data: Path) -> None:
    process = serve()
    lines = until_ready(process)
    with Client.connect(data) as tasks:
        failing = tasks.create_task(
            type="talker", options={"what": "fail"}, max_retries=0, correlation_id="batch-7", actor="tester"
        )
        tasks.wait(failing, WITHIN)
        dying = tasks.create_task(type="talker", options={"what": "die"}, max_retries=0)
        tasks.wait(dying, WITHIN)
        with pytest.raises(TasktrailError):
            tasks.start_task(failing)
        with pytest.raises(TasktrailError):
            tasks.create_task(type="unheard_of")
    lines += until_ended(process)

    told = objects(lines)
    assert all({"event", "level", "timestamp"} <= line.keys() for line in told)
    assert ("stopping" in {line["event"] for line in told}, process.returncode) == (True, 0)
    of_task = [line for line in told if line.get("task_id") == failing]
    assert [(line["event"], line["level"], line["attempt"]) for line in of_task if "command" not in line] == [
        ("attempt started", "info", 1),
        ("attempt failed", "error", 1),
    ]
    assert {(line["type"], line["correlation_id"]) for line in of_task if line.get("attempt")} == {
        ("talker", "batch-7")
    }
    (failed,) = [line for line in told if line["event"] == "attempt failed"]
    assert "no luck at level 0 after 12" in failed["error"]
    assert "just before" not in "".join(lines)
    lost = [line for line in told if line["event"] == "attempt lost"]
    assert [line["attempt"] for line in lost] == [1, 2, 3]
    assert all("\n" not in line["error"] for line in lost)
    commands = [(line["event"], line["command"], line["type"], line.get("code")) for line in told if "command" in line]
    assert Counter(commands) == {  # the Scheduler and the intake refuse in their own threads, so in any order
        ("command accepted", "create_task", "talker", None): 2,
        ("command refused", "start_task", "", "illegal_transition"): 1,
        ("command refused", "create_task", "unheard_of", "unknown_type"): 1,
    }


@pytest.mark.slow
def test_a_service_that_does_not_start_says_so_in_json(serve: Serve) -> None:
    first = serve()
    until_ready(first)
    second = serve()
    _, said = second.communicate(timeout=WITHIN)
    told = objects(said.splitlines())
    assert (told[-1]["event"], told[-1]["code"], second.returncode) == ("the service does not run", "data_in_use", 1)
    assert told[-1]["remedy"]
    until_ended(first)


@pytest.mark.slow
def test_handlers_that_cannot_be_loaded_are_an_error_of_the_log_and_stop_a_strict_service(
    serve: Serve,
) -> None:
    process = serve(HANDLERS="printing_handlers,missing_module")
    (error,) = [line for line in objects(until_ready(process)) if line["level"] == "error"]
    assert error["event"] == "handlers cannot be loaded"
    assert "missing_module" in error["error"]
    until_ended(process)

    strict = serve("--strict", HANDLERS="printing_handlers,missing_module", LOG_FORMAT="console")
    _, said = strict.communicate(timeout=WITHIN)
    assert strict.returncode == 1
    assert "missing_module" in said
    assert "ready" not in said


@pytest.mark.slow
def test_a_preset_that_no_task_can_have_is_an_error_of_the_log(serve: Serve) -> None:
    process = serve(PRESETS='[{"name": "mine", "type": "image_convert", "options": {"qualty": 80}}]')
    (error,) = [line for line in objects(until_ready(process)) if line["level"] == "error"]
    assert error["event"] == "a preset cannot be used"
    assert error["error"] == "preset mine: image_convert has no option 'qualty'; did you mean 'quality'?"
    until_ended(process)


@pytest.mark.slow
def test_lines_for_people_are_there_too(serve: Serve, data: Path) -> None:
    process = serve("--strict", LOG_FORMAT="console")
    until_ready(process)
    with Client.connect(data) as tasks:
        tasks.wait(tasks.create_task(type="talker", options={"what": "text"}), WITHIN)
    lines = until_ended(process)
    assert [line for line in lines if "attempt ended" in line and "type=talker" in line]
    assert "stopping" in lines
