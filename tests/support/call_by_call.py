"""Kills a child at each system call that changes a file, one after another, and checks what is left each time.

A campaign says what exists before (`prepare`), what the child does (`work`) and what has to be true after a kill
(`check`). The child opens its service and waits; strace then attaches to one of its threads, and kills it where the
thread begins its nth call of a kind. So each place is a thread, a call and a number, and one run that is only watched
finds all of them. Without strace nothing is killed, and the campaign says so.
"""

import argparse
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from tasktrail import TaskService
from tasktrail.events import Recorded
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.verification import verify

CALLS = (
    "pwrite64", "write", "fdatasync", "fsync", "ftruncate", "openat", "mkdir", "mkdirat", "link", "linkat", "rename",
    "renameat", "renameat2", "unlink", "unlinkat", "rmdir",
)  # fmt: skip
WITHIN = 60.0
"""The most seconds that a child and its strace may take for anything."""

Begin = Callable[[], None]
"""The child calls it when it is ready; it returns when the kill is prepared."""


class Campaign(NamedTuple):
    """The work of a child, and what has to be true after it was killed.

    Args:
        prepare: fills a data folder.
        work: what the child does with it.
        check: looks at the folder after a kill, with the child's output, starts the service again and looks once more.
            Returns the outcome in words. Raises AssertionError.
    """

    prepare: Callable[[Path], None]
    work: Callable[[Path, Begin], None]
    check: Callable[[Path, str], str]


CANARY = "qzxcanary"
"""A word inside the tasks that are to be forgotten."""


def complete_tasks(service: TaskService, users: Iterable[int]) -> None:
    """Complete a task of each user in turn. Those of no user (0) are to be forgotten."""
    for user in users:
        word = "kept" if user else CANARY
        service.wait(service.create_task(type="echo", label=word, options={"value": word}, user_id=user), WITHIN)


def records_of(data: Path) -> list[Recorded]:
    """Return all records of a log, which has to verify."""
    with closing(SqliteLogReader(data / "log.db")) as log:
        found = verify(log)
        assert not found.findings, found.findings
        records = list(log.read())
    assert [record.position for record in records] == list(range(1, found.position + 1))
    return records


class Place(NamedTuple):
    """Where the child is killed."""

    thread: str
    call: str
    number: int


def _begin() -> None:
    """Print the threads, and wait for the signal to begin."""
    while any(thread.native_id is None for thread in threading.enumerate()):  # a thread is just beginning
        threading.Event().wait(0.001)
    for thread in threading.enumerate():
        sys.stdout.write(f"thread {thread.native_id} {thread.name}\n")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


class _Child:
    """The process that does the work: its threads exist already, and it waits."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, str(Path(sys.argv[0]).resolve()), "--child", str(data)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.threads: dict[str, int] = {}
        assert self.process.stdout is not None
        for line in iter(self.process.stdout.readline, "ready\n"):
            assert line, "the child could not begin"
            _, number, name = line.rstrip("\n").split(" ", 2)
            self.threads[name] = int(number)

    def go_on(self) -> tuple[int, str]:
        """Let it work to its end; return its exit status and its output."""
        said, _ = self.process.communicate("\n", WITHIN)
        return self.process.returncode, said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            _kill_below(self.process.pid)
            self.process.communicate()


@contextmanager
def _traced(number: int, *options: str) -> Iterator[None]:
    """Within the context strace holds the process or thread with that number."""
    command = ["strace", "-o", os.devnull, *options, "-p", str(number)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        assert "attached" in said, said
        try:
            yield
            strace.wait(WITHIN)
        finally:
            strace.kill()


def places(data: Path) -> list[Place]:
    """Find all places in one run that is watched to its end. Calls of threads that begin later are left out."""
    trace, calls = data.parent / "trace", ",".join(f"?{call}" for call in CALLS)  # not every machine has all of them
    with _Child(data) as child, _traced(child.process.pid, "-f", "-o", str(trace), "-e", f"trace={calls}"):
        status, said = child.go_on()
    assert status == 0, said
    names = {number: name for name, number in child.threads.items()}
    made: Counter[tuple[str, str]] = Counter()
    for number, call in re.findall(r"^(\d+) +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE):
        made[names.get(int(number), ""), call] += 1
    later = sum(times for (name, _), times in made.items() if not name)
    if later:
        sys.stdout.write(f"{later} calls of threads that began later are left out\n")
    return [
        Place(name, call, number)
        for (name, call), times in sorted(made.items())
        if name
        for number in range(1, times + 1)
    ]


def killed(data: Path, place: Place) -> tuple[bool, str]:
    """Run the child; return whether it was killed at that place, and its output."""
    injected = f"inject={place.call}:signal=SIGKILL:when={place.number}"
    with _Child(data) as child, _traced(child.threads[place.thread], "-e", f"trace={place.call}", "-e", injected):
        status, said = child.go_on()
    assert status in (0, -signal.SIGKILL), said
    return status != 0, said


def _kill_below(pid: int) -> None:
    """Kill a process and all its descendants, the lowest first; workers have sessions of their own."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            _kill_below(int(child))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _told(outcomes: Counter[str]) -> str:
    return ", ".join(f"{number} times {outcome}" for outcome, number in sorted(outcomes.items()))


def _run(campaign: Campaign, arguments: argparse.Namespace) -> int:
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        origin, data = Path(folder, "origin"), Path(folder, "data")
        campaign.prepare(origin)
        shutil.copytree(origin, data, symlinks=True)
        part, parts = arguments.part
        there = [place for place in places(data) if place.call in arguments.calls]
        found = [place for place in there if place.number % parts == part % parts]
        random.Random(arguments.seed).shuffle(found)
        chosen, kills = found[: arguments.most], 0
        for number, place in enumerate(chosen, 1):
            shutil.rmtree(data)
            shutil.copytree(origin, data, symlinks=True)
            try:
                died, said = killed(data, place)  # or it has made fewer calls this time
                outcomes[campaign.check(data, said)] += 1
            except BaseException:
                sys.stdout.write(f"killed where {place.thread} calls {place.call} {place.number}:\n")
                raise
            kills += died
            if number % 50 == 0:
                sys.stdout.write(f"{number} of {len(chosen)} places\n")
                sys.stdout.flush()
    sys.stdout.write(f"{kills} kills at {len(chosen)} places: {_told(outcomes)}; log and views sound after each\n")
    return 0


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    return int(part), int(parts)


def main(campaign: Campaign, about: str | None) -> int:
    """Run a campaign from the command line, or be its child."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=10**6, help="of all there are, so many, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", type=lambda text: text.split(","), default=CALLS, help="only these")
    parser.add_argument("--part", type=_part, default=(1, 1), help="as 2/8: every eighth call, from the second")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.getLogger("tasktrail").setLevel(logging.ERROR)
    if arguments.child:
        campaign.work(arguments.child, _begin)
        return 0
    if shutil.which("strace") is None:
        sys.stdout.write("strace is not there: nothing was killed\n")
        return 0
    return _run(campaign, arguments)
