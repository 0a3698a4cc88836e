"""Pages do what they say: every command of README, tutorials and how-tos is run as it stands, in order, in a fresh
folder, by one shell, and what it prints is held against the page."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/[th]*/*.md"))]
WITHIN = 120
KINDS = {"console", "python", "toml", "text", ""}
"""The kinds of blocks: commands stand in `console` blocks, so that none escapes the tests."""
IN_A_CHECKOUT = {
    "README.md",
    "docs/tutorial/own-task-type.md",
    "docs/how-to/run-the-simulator.md",
    "docs/how-to/query-with-sql.md",
}
NOT_HERE = {"make demo", "make test"}
"""Commands of the README that take long. `.ci/run` runs them."""
_LOOK_EVERY = 0.02


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Return kind and text of each block."""
    for found in re.finditer(r"^ *```(\w*)\n(.*?)^ *```$", page, flags=re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Return each command of the console blocks, with its `> ` lines, and its expected output."""
    for kind, block in blocks(page):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:] if kind == "console" else ():
            first, *lines = step.splitlines()
            more = [line.removeprefix("> ") for line in lines if line.startswith("> ")]
            printed = "".join(f"{line}\n" for line in lines if not line.startswith("> "))
            yield "\n".join([first, *more]), printed


def write_files(page: str, folder: Path) -> None:
    """Put the programs of a page where its commands look for them: a Python block may begin with `# name.py`."""
    for kind, block in blocks(page):
        if kind == "python" and (name := re.match(r"# ([\w/]+\.py)\n", block)):
            file = folder / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block)


def fits(printed: str, expected: str) -> bool:
    """Return whether the text is the expected one, apart from a missing end of its last line.

    `…` stands for anything in a line; alone, for any number of lines.
    """
    if printed and not printed.endswith("\n"):
        printed += "\n"
    pattern = ""
    for line in expected.splitlines():
        pattern += r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
    return re.fullmatch(pattern, printed) is not None


class Shell:
    """A bash that is given one command after the other, as a person would type them."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._told = folder.with_name(f"{folder.name}.stderr")
        self._read = 0
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        with self._told.open("w") as stderr:
            self._bash = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=folder,
                env={**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore", "COLUMNS": "200"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self._answer("set -m")  # jobs have numbers, as at a prompt

    def run(self, command: str) -> str:
        """Return the command's output; for one in the background, its first line on standard error. It must succeed."""
        line = command.partition("  #")[0].rstrip()
        printed, code = self._answer(line)
        assert code == 0, f"$ {command}\n{printed}{self.told()}\n--- ended with {code}"
        if line.endswith("&"):
            return self._first_line_told()
        if line.startswith("kill ") and "-HUP" not in line:  # it ends no other process
            *hard, job = line.split()[1:]
            ended = self._answer(f"wait {job}")[1]
            assert hard or ended == 0, f"{job} ended with {ended}\n{self.told()}"
        return printed

    def told(self) -> str:
        """Return the lines on standard error since the last call."""
        with self._told.open(errors="replace") as file:
            file.seek(self._read)
            text = file.read()
            self._read = file.tell()
        return text

    def close(self) -> None:
        """End the shell and everything that it started."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write("trap '' TERM; kill $(jobs -p) 2>/dev/null; wait; exit\n")
        self._bash.stdin.close()
        try:
            self._bash.wait(WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.wait()
        self._bash.stdout.close()

    def _answer(self, command: str) -> tuple[str, int]:
        assert self._bash.stdin
        assert self._bash.stdout
        self.told()
        quoted = command.replace("'", "'\\''")
        self._bash.stdin.write(f"eval '{quoted}' </dev/null; printf '\\n%s %d\\n' END-OF-STEP $?\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.startswith("END-OF-STEP"):
                return "".join(lines).removesuffix("\n"), int(line.split()[1])
            lines.append(line)
        raise AssertionError(f"the shell ended at $ {command}\n{self.told()}")

    def _first_line_told(self) -> str:
        deadline = time.monotonic() + WITHIN
        text = ""
        while "\n" not in text and time.monotonic() < deadline:
            text += self.told()
            time.sleep(_LOOK_EVERY)
        return text.partition("\n")[0] + "\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES)
def test_the_page_does_what_it_says(
    page: str, tmp_path: Path, environment: Path, request: pytest.FixtureRequest
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    if any("curl " in command for command, _ in steps(text)) and shutil.which("curl") is None:
        pytest.skip("needs curl")
    folder = tmp_path / "work"
    if page in IN_A_CHECKOUT:
        folder = request.getfixturevalue("checkout")
    else:
        folder.mkdir()
    write_files(text, folder)
    with closing(Shell(folder, environment / "bin")) as shell:
        for command, expected in steps(text):
            if command.partition("  #")[0].rstrip() in NOT_HERE:
                continue
            printed = shell.run(command)
            assert fits(printed, expected), f"$ {command}\n{printed}\n--- is not ---\n{expected}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_stand_in_console_blocks_only(page: str) -> None:
    assert {kind for kind, _ in blocks((ROOT / page).read_text(encoding="utf-8"))} <= KINDS


@pytest.mark.parametrize("page", PAGES)
def test_a_service_that_is_stopped_has_ended_before_the_next_command(page: str) -> None:
    """A shell does not wait by itself, as the one here does. The service writes to its folder for seconds more."""
    consoles = [text for kind, text in blocks((ROOT / page).read_text(encoding="utf-8")) if kind == "console"]
    typed = [[command for command, _ in steps(f"```console\n{text}```\n")] for text in consoles]
    pairs = [pair for commands in typed for pair in pairwise(commands)]
    stops = re.compile(r"kill (?!-HUP|-9)")
    assert [after for before, after in pairs if stops.match(before) and after.split()[0] != "wait"] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_home_folder_stands_in_quotes(page: str) -> None:
    """In quotes a shell leaves `~` alone, and the command makes a folder of that name."""
    assert re.findall(r"""['"]~/.*""", (ROOT / page).read_text()) == []


def test_what_takes_too_long_here_is_done_in_ci() -> None:
    named = [command.partition("  #")[0].rstrip() for command, _ in steps((ROOT / "README.md").read_text())]
    ci = (ROOT / ".ci" / "run").read_text()
    assert set(named) >= NOT_HERE
    patterns = {target: target.replace(" ", r"( \S+=\S+)* ") + "$" for target in NOT_HERE}
    assert [target for target, pattern in patterns.items() if not re.search(pattern, ci, re.MULTILINE)] == []


def test_other_output_than_the_page_shows_is_found() -> None:
    assert fits("task 1 completed in 0.03 s\n", "task 1 completed in …\n")
    assert not fits("task 1 failed\n", "task 1 completed in …\n")
    assert not fits("1\nmore\n", "1\n")
    assert fits("1\nmore\n2\n", "1\n…\n2\n")
    assert fits("1\n2\n", "1\n…\n2\n")


def test_commands_are_taken_from_console_blocks_only() -> None:
    page = "```console\n$ one\nout\n$ two \\\n> more &\n```\n```text\n$ three\n```\n"
    assert list(steps(page)) == [("one", "out\n"), ("two \\\nmore &", "")]


def test_the_shell_keeps_what_it_was_told_and_fails_with_a_command(tmp_path: Path, environment: Path) -> None:
    (tmp_path / "inside").mkdir()
    with closing(Shell(tmp_path, environment / "bin")) as shell:
        shell.run("cd inside; word='it''s'")
        assert shell.run('echo "$word $(basename $PWD)"') == "its inside\n"
        assert shell.run("printf 'no end of line'") == "no end of line"
        assert shell.run("bash -c 'trap \"exit 0\" TERM; echo ready >&2; sleep 600 & wait' &") == "ready\n"
        shell.run("kill %1")
        with pytest.raises(AssertionError, match="not today"):
            shell.run("echo not today >&2; false")


def program(page: str, name: str) -> str:
    """Return the block of a page that begins with `# name`."""
    found = [text for kind, text in blocks((ROOT / page).read_text(encoding="utf-8")) if kind == "python"]
    return next(text for text in found if text.startswith(f"# {name}\n"))


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/own-task-type.md"])
def test_the_shortest_program_is_the_same_wherever_it_stands(page: str) -> None:
    usual, docstring = program("docs/how-to/run-your-own-functions.md", "app.py"), '    """Add two numbers."""\n'
    assert program(page, "app.py").replace(docstring, "") == usual.replace(docstring, "")
    assert len([line for line in usual.splitlines() if line.strip()]) <= 15


def test_the_program_that_is_not_run_is_a_program() -> None:
    compile(program("docs/how-to/coming-from-celery.md", "celery_app.py"), "celery_app.py", "exec")
