"""Pages do what they say: every command in them is run, and what it prints is held against the page."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
WITHIN = 30


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Each command of the console blocks with what it should print."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            yield command, printed


def fits(printed: str, expected: str) -> bool:
    """Whether the text is the expected one. `…` stands for anything in a line; alone, for any number of lines."""
    pattern = ""
    for line in expected.splitlines():
        pattern += r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
    return re.fullmatch(pattern, printed) is not None


class Shell:
    """Runs commands as a person would type them; one may stay in the background."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
        self._background: subprocess.Popen[str] | None = None

    def run(self, command: str) -> str:
        """What the command prints; of one in the background, its first line on standard error."""
        if command.endswith("&"):
            return self._start(command.removesuffix("&"))
        if command == "kill %1":
            return self.stop()
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _start(self, command: str) -> str:
        self._background = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self._folder,
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._background.stderr
        return self._background.stderr.readline()

    def stop(self) -> str:
        """End what is in the background; it must end well."""
        if self._background is not None:
            self._background.terminate()
            self._background.communicate(timeout=WITHIN)
            assert self._background.returncode == 0
            self._background = None
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("page", ["tutorial/first-task.md", "how-to/operate.md", "how-to/back-up-and-restore.md"])
def test_the_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    try:
        for command, expected in steps((DOCS / page).read_text(encoding="utf-8")):
            printed = shell.run(command)
            assert fits(printed, expected), f"$ {command}\n{printed}\n--- is not ---\n{expected}"
    finally:
        shell.stop()


def test_other_output_than_the_page_shows_is_found() -> None:
    assert fits("task 1 completed in 0.03 s\n", "task 1 completed in …\n")
    assert not fits("task 1 failed\n", "task 1 completed in …\n")
    assert not fits("1\nmore\n", "1\n")
    assert fits("1\nmore\n2\n", "1\n…\n2\n")
    assert fits("1\n2\n", "1\n…\n2\n")


def test_commands_are_taken_from_console_blocks_only() -> None:
    page = "```console\n$ one\nout\n$ two &\n```\n```sh\n$ three\n```\n"
    assert list(steps(page)) == [("one", "out\n"), ("two &", "")]
