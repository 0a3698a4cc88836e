"""A task type from a package of its own: installed, found through its entry point, killed, and resumed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasktrail.events import Checkpointed, Completed, Started
from tasktrail.reading import Reader

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "docs" / "examples" / "word-count"
SERVICE = ROOT / "tests" / "support" / "service_process.py"
LINES = 2_000_000
EXPECTED = {"words": 6 * LINES, "lines": LINES}
WITHIN = 60

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into, built by the setuptools that is here."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "word-count"
    source.mkdir()
    for file in PACKAGE.iterdir():  # a build leaves litter beside the source
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", target, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def environment(installed: Path) -> dict[str, str]:
    path = os.pathsep.join([str(installed), str(SERVICE.parent)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "long.txt"
    path.write_text("".join(f"line {number} of a long text\n" for number in range(LINES)))
    return path


def tasktrail(*words: object, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "tasktrail", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WITHIN, check=True).stdout


def test_the_type_is_found_through_its_entry_point(environment: dict[str, str], tmp_path: Path) -> None:
    told = tasktrail("types", "word_count", "--data", tmp_path / "data", environment=environment)

    assert "Count the words and lines of a text." in told


def test_it_counts(environment: dict[str, str], text: Path, tmp_path: Path) -> None:
    output = tmp_path / "count.txt"

    tasktrail("run", "word_count", text, output, "--data", tmp_path / "data", environment=environment)

    assert output.read_text() == f"{6 * LINES} words in {LINES} lines\n"


class Service:
    """A service in a process of its own."""

    def __init__(self, data: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SERVICE), str(data), "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stdin
        assert self.process.stdout
        self._to, self._from = self.process.stdin, self.process.stdout
        assert self._from.readline() == b'"ready"\n'

    def send(self, command: dict[str, Any]) -> None:
        self._to.write(json.dumps(command).encode() + b"\n")
        self._to.flush()
        assert json.loads(self._from.readline())[1] == ""

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        self.process.communicate(timeout=WITHIN)


def events_until(data: Path, kind: type, after: int = 0) -> Iterator[Any]:
    """The events of task 1, up to the first of this kind behind the position."""
    with Reader(data) as reader:
        for record in reader.follow(after):
            if record.task_id == 1:
                yield record.event
                if type(record.event) is kind:
                    return


def test_killed_in_the_middle_it_goes_on_where_it_was(environment: dict[str, str], text: Path, tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "count.txt"
    service = Service(data, environment)
    service.send(
        {
            "command": "create_task",
            "command_id": "one",
            "type": "word_count",
            "input_file": str(text),
            "output_file": str(output),
        }
    )
    list(events_until(data, Checkpointed))
    service.kill()
    assert not output.exists(), "it was killed in the middle"

    again = Service(data, environment)
    events = list(events_until(data, Completed))
    again.end()

    assert [event.resumed for event in events if isinstance(event, Started)] == [False, True]
    assert events[-1].result == EXPECTED
    assert output.read_text() == f"{6 * LINES} words in {LINES} lines\n"
    reached = [event.checkpoint.processed_bytes for event in events if isinstance(event, Checkpointed)]
    assert reached == sorted(set(reached)), "nothing that was durable was done again"


def test_the_page_shows_the_handler_as_it_stands_in_the_package() -> None:
    page = (ROOT / "docs" / "tutorial" / "own-task-type.md").read_text(encoding="utf-8")
    module = (PACKAGE / "word_count.py").read_text(encoding="utf-8")
    handler = module[module.index("@handler") :]

    assert f"```python\n{handler}```" in page
    assert len(handler.splitlines()) <= 18, "fifteen lines and their signature"
