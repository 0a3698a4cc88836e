"""A task type from a separate package: installed, found through its entry point, killed, and resumed."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tasktrail import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Checkpointed, Failed, Started

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "docs" / "examples" / "word-count"
LINES = 1_000_000
EXPECTED = {"words": 6 * LINES, "lines": LINES}
WITHIN = 60

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package, built by the local setuptools."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "word-count"
    source.mkdir()
    for file in PACKAGE.iterdir():  # a build leaves files beside the source
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", target, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def environment(installed: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(installed), "PYTHONWARNINGS": "ignore"}


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


def kill_workers() -> None:
    """Kill -9 every worker of the service in this process."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie is none of its own
            if "tasktrail.handlers.process.worker" in process.cmdline():
                process.kill()


def test_killed_in_the_middle_it_goes_on_where_it_was(
    installed: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.setattr(sys, "path", [*sys.path, str(installed)])
    output = tmp_path / "count.txt"
    with TaskService.open(tmp_path / "data", config=Config(workers=1)) as service:
        task_id = service.create_task(type="word_count", input_file=text, output_file=output)
        for record in service.follow():
            if type(record.event) is Checkpointed:
                kill_workers()
                break
        task = service.wait(task_id, WITHIN)
        events = [record.event for record in service.events(task_id)]

    assert [event.outcome for event in events if isinstance(event, Failed)] == ["lost"]
    assert [event.resumed for event in events if isinstance(event, Started)] == [False, True]
    assert (task.status, task.result) == ("completed", EXPECTED)
    assert output.read_text() == f"{6 * LINES} words in {LINES} lines\n"
    reached = [event.checkpoint.processed_bytes for event in events if isinstance(event, Checkpointed)]
    assert reached == sorted(set(reached)), "nothing that was durable was done again"


def test_the_page_shows_the_handler_as_it_stands_in_the_package() -> None:
    page = (ROOT / "docs" / "tutorial" / "own-task-type.md").read_text(encoding="utf-8")
    module = (PACKAGE / "word_count.py").read_text(encoding="utf-8")
    handler = module[module.index("@handler") :]

    assert f"```python\n{handler}```" in page
    assert len(handler.splitlines()) <= 18, "fifteen lines and their signature"
