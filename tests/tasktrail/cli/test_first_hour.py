"""A user's first hour at a terminal of 80 columns: every command, used rightly and wrongly, on a real service.

Whatever is typed, there is no traceback, no line wider than the terminal, and no cut task number, and every refusal
says what to do next.
"""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

COLUMNS, LINES = 80, 24
WITHIN = 60.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")
_REMEDY = re.compile(r"^ {2}\S", re.MULTILINE)

BEFORE = """
2 tasktrail
0 tasktrail --version
0 tasktrail --help
2 tasktrail lst
0 tasktrail types
0 tasktrail doctor
1 tasktrail list
1 tasktrail show 1
2 tasktrail run
1 tasktrail run image_thumb photo.jpg small.jpg
1 tasktrail run image_thumbnail fhoto.jpg small.jpg
1 tasktrail run image_thumbnail broken.jpg small.jpg
0 tasktrail run image_thumbnail photo.jpg small.jpg
1 tasktrail run image_thumbnail photo.jpg new/small.jpg
0 tasktrail run image_thumbnail photo.jpg new/small.jpg -p
0 tasktrail run image_thumbnail photo.jpg new
2 tasktrail run image_thumbnail photo.jpg wide.jpg --width 3
1 tasktrail run image_thumbnail photo.jpg wide.jpg -o widht=3
1 tasktrail run image_thumbnail photo.jpg wide.jpg -o width=much
2 tasktrail run image_thumbnail photo.jpg wide.jpg -o width
1 tasktrail run image_convert photo.jpg photo.jpg
0 tasktrail run image_convert photo.jpg photo.webp -o width=120
0 tasktrail list
0 tasktrail show 3
0 tasktrail output 2
0 tasktrail verify
3 tasktrail submit image_thumbnail photo.jpg later.jpg
0 tasktrail watch
3 tasktrail pause
0 tasktrail completion bash
2 tasktrail completion
"""
DURING = """
1 tasktrail serve
0 tasktrail submit image_thumbnail photo.jpg one.jpg
1 tasktrail submit image_thumbnail photo.jpg two.jpg --priority 99
2 tasktrail submit image_thumbnail photo.jpg two.jpg --priority high
0 tasktrail submit image_thumbnail photo.jpg two.jpg --held --label a_rather_long_label=with_a_long_value
1 tasktrail submit image_thumbnail photo.jpg two.jpg
0 tasktrail submit image_thumbnail photo.jpg three.jpg --scheduled-for +10m
2 tasktrail submit image_thumbnail photo.jpg four.jpg --scheduled-for soon
0 tasktrail submit image_thumbnail broken.jpg five.jpg
0 tasktrail watch {one}
1 tasktrail watch {five}
0 tasktrail list
0 tasktrail list --status failed
1 tasktrail list --status fialed
0 tasktrail list --label a_rather_long_label=with_a_long_value
0 tasktrail list --wide
0 tasktrail show {five}
0 tasktrail why {two}
0 tasktrail why {five}
0 tasktrail history {five}
0 tasktrail output {five}
1 tasktrail show 999
2 tasktrail show one
1 tasktrail history 999
1 tasktrail output 999
0 tasktrail queue
0 tasktrail stats
0 tasktrail top --once
1 tasktrail cancel {one}
1 tasktrail cancel 999
1 tasktrail retry {one}
0 tasktrail retry {five}
0 tasktrail start {two}
0 tasktrail adjust {three} --priority 9
1 tasktrail adjust {one} --priority 9
0 tasktrail cancel {three}
1 tasktrail pause --type image_thumb
0 tasktrail pause --type image_thumbnail --reason "the disk is being changed for a larger one tonight"
0 tasktrail resume --type image_thumbnail
0 tasktrail limits
0 tasktrail limits --max-concurrent 1
2 tasktrail limits --max-concurrent -1
0 tasktrail limits --reset
1 tasktrail schedule add nightly image_thumbnail photo.jpg n.jpg --cron "99 2 * * *"
1 tasktrail schedule add nightly image_thumbnail photo.jpg n.jpg --cron "0 2 * * *" --timezone Mars/Olympus
0 tasktrail schedule add nightly image_thumbnail photo.jpg n-{{fire_time}}.jpg --cron "0 2 * * *"
0 tasktrail schedule list
0 tasktrail schedule remove nightly
1 tasktrail schedule remove nightly
0 tasktrail notices {one}
0 tasktrail endpoints
1 tasktrail enable nowhere
0 tasktrail log --limit 3
0 tasktrail whatif --max-concurrent 1
0 tasktrail verify
0 tasktrail backup copy.db
1 tasktrail backup copy.db
1 tasktrail restore copy.db
0 tasktrail rebuild
0 tasktrail doctor
"""
PRINTS_AS_IT_IS = {"log", "completion", "--wide"}


class Typed(NamedTuple):
    """A line that a user types, and the output."""

    line: str
    due: int
    code: int
    seen: str

    def faults(self, tasks: int) -> Iterator[str]:
        """Return the faults that a user must not meet in the first hour."""
        words = self.line.split()
        if self.code != self.due:
            yield f"exit code {self.code}, not {self.due}"
        if "Traceback" in self.seen:
            yield "a traceback"
        wide = [line for line in self.seen.splitlines() if len(line) > COLUMNS and len(line.split()) > 1]
        if wide and not PRINTS_AS_IT_IS & set(words):
            yield f"wider than the terminal: {wide[0]}"
        if self.code in (1, 3) and "Error" not in self.seen and not _REMEDY.search(self.seen):
            yield "no remedy"
        if self.code == 2 and "--help" not in self.seen:
            yield "no way to the help"
        cut = [line for line in self.seen.splitlines() if re.match(r"\s*(\d*…|\d+…)", line)]
        if cut:
            yield f"cut: {cut[0]}"
        if words[1:] == ["list"] and self.code == 0:
            missing = [
                number for number in range(1, tasks + 1) if not re.search(rf"^\s*{number}\b", self.seen, re.MULTILINE)
            ]
            if missing:
                yield f"tasks {missing} are not in the list"


class Terminal:
    """Runs commands as from a keyboard, in a folder, 80 columns wide."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("TASKTRAIL", "LC_", "COLUMNS"))
            },
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "TASKTRAIL_DATA": str(folder / "data"),
        }

    def type(self, line: str, due: int) -> Typed:
        """Run a line to its end."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        command = [sys.executable, "-m", *shlex.split(line)]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        os.close(ours)
        code = process.wait(WITHIN)
        text = _CONTROL.sub("", seen.decode()).replace("\r\n", "\n")
        return Typed(line, due, code, "\n".join(part.rpartition("\r")[2] for part in text.split("\n")))


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    photo = tmp_path / "photo.jpg"
    Image.effect_mandelbrot((800, 600), (-2, -1.5, 1, 1.5), 60).save(photo)
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:9000])
    return Terminal(tmp_path)


def lines(script: str, **numbers: int) -> Iterator[tuple[int, str]]:
    for line in script.strip().splitlines():
        due, _, command = line.partition(" ")
        yield int(due), command.format(**numbers)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_in_the_first_hour_fails_without_a_word_of_help(terminal: Terminal) -> None:
    typed = [terminal.type(command, due) for due, command in lines(BEFORE)]
    service = subprocess.Popen(
        [sys.executable, "-m", "tasktrail", "serve"],
        cwd=terminal.folder,
        env=terminal.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert service.stderr
        assert service.stderr.readline().startswith("ready")
        answer = terminal.type("tasktrail list --json", 0)
        first = len(re.findall(r'"id":', answer.seen)) + 1
        numbers = dict(zip(("one", "two", "three", "five"), range(first, first + 4), strict=True))
        typed += [terminal.type(command, due) for due, command in lines(DURING, **numbers)]
    finally:
        service.terminate()
        service.communicate(timeout=WITHIN)
    typed.append(terminal.type("tasktrail rebuild", 0))
    faults = [f"{one.line}: {fault}\n{one.seen}" for one in typed for fault in one.faults(first - 1)]
    assert len(typed) > 60
    assert not faults, "\n".join(faults)
