"""What one short task costs the service, by thread: the figures of "The budget of a task" in the benchmarks.

PYTHONPATH=tests/support python tests/bench/budget.py [--tasks 6000] [--workers 2] [--calls]

Twice: while one caller submits no-op tasks one at a time and workers run them, and while tasks drain that were all
submitted before. The kernel counts the CPU of each thread and everything else except commits. `--calls` counts system
calls with strace, which makes everything slow, so the CPU of that run says nothing.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import psutil
from harness import machine, scratch
from rich.console import Console
from rich.table import Table
from services import service

from tasktrail.api.service import TaskService
from tasktrail.events import CreateTask
from tasktrail.events.log.sqlite import SqliteEventLog

_NOOP = CreateTask(type="noop")
_AT_ONCE = 500
_WITHIN = 300.0
_MOST_CALLS = 14
_WHO = {
    "MainThread": "caller",
    "Scheduler": "Scheduler",
    "Projector": "Projector (views)",
    "WorkerPool": "WorkerPool",
    "executor": "executor",
}


class Counts:
    """What the kernel has counted so far."""

    def __init__(self) -> None:
        self.cpu = Counter[str]()
        """Thread or process → microseconds."""
        self.switches = 0
        """How often a thread of the service waited."""
        for thread in threading.enumerate():
            task = Path(f"/proc/self/task/{thread.native_id}")
            name = re.split(r"[-(]\d*", thread.name)[0]
            self.cpu[_WHO.get(name, "the rest")] += int(task.joinpath("schedstat").read_text().split()[0]) // 1000
            found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", task.joinpath("status").read_text(), re.MULTILINE)
            self.switches += int(found[1]) if found else 0
        for worker in psutil.Process().children(recursive=True):
            used = worker.cpu_times()
            self.cpu["workers"] += int((used.user + used.system) * 1e6)
        written = re.search(r"^write_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)
        self.written = int(written[1]) if written else 0


def submit_and_drain(tasks: TaskService, number: int) -> Callable[[], None]:
    """Submit tasks that all wait for one task; the rest of the work is running them."""
    gate = tasks.create_task(type="noop", held=True)
    waiting = [CreateTask(type="noop", depends_on=(gate,))] * number
    for begin in range(0, number, _AT_ONCE):
        tasks.send_many(waiting[begin : begin + _AT_ONCE])

    def drain() -> None:
        tasks.start_task(gate)
        tasks.wait(gate + number, timeout=_WITHIN)

    return drain


def submit_live(tasks: TaskService, number: int) -> Callable[[], None]:
    """Let one caller send one after the other."""

    def live() -> None:
        for _ in range(number):
            last = tasks.send(_NOOP).task_id
        tasks.wait(last, timeout=_WITHIN)

    return live


@contextmanager
def counted_commits() -> Iterator[Counter[str]]:
    """Count appends of the log meanwhile."""
    counts, append = Counter[str](), SqliteEventLog.append

    def counting(log: SqliteEventLog, *arguments: object, **named: object) -> object:
        counts["commits"] += 1
        return append(log, *arguments, **named)  # type: ignore[arg-type]  # passed on as they are

    SqliteEventLog.append = counting  # type: ignore[assignment,method-assign]
    try:
        yield counts
    finally:
        SqliteEventLog.append = append  # type: ignore[method-assign]


@contextmanager
def traced_calls(wanted: bool) -> Iterator[dict[str, int]]:  # noqa: FBT001 - an option passed on
    """Count system calls of this process meanwhile, if they are wanted."""
    calls: dict[str, int] = {}
    if not wanted:
        yield calls
        return
    with tempfile.NamedTemporaryFile(mode="r") as found:
        strace = subprocess.Popen(["strace", "-c", "-f", "-o", found.name, "-p", str(os.getpid())], stderr=-1)
        assert strace.stderr is not None
        while b"attached" not in strace.stderr.readline():
            pass
        yield calls
        strace.send_signal(signal.SIGINT)
        strace.communicate()
        for line in found.read().splitlines():
            numbers = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
            if numbers and numbers[2] != "total":
                calls[numbers[2]] = int(numbers[1])


Prepare: TypeAlias = Callable[[TaskService, int], Callable[[], None]]


def measure(prepare: Prepare, number: int, workers: int, *, calls: bool) -> Table:
    """Measure one case; return a row for each figure."""
    with scratch() as folder, service(folder, workers) as tasks:
        work = prepare(tasks, number)
        before, began = Counts(), time.perf_counter()
        with counted_commits() as commits, traced_calls(calls) as called:
            work()
        seconds, after = time.perf_counter() - began, Counts()
    doing = (prepare.__doc__ or "").partition("\n")[0]
    table = Table(title=f"{doing} {workers} workers, {number / seconds:,.0f} tasks/s", title_justify="left")
    table.add_column("of one task")
    table.add_column("", justify="right")
    cpu = after.cpu - before.cpu
    for who, used in cpu.most_common():
        table.add_row(f"CPU, {who}", f"{used / number:,.0f} us")
    table.add_row("commits", f"{commits['commits'] / number:.2f}")
    table.add_row("waits of threads of the service", f"{(after.switches - before.switches) / number:.1f}")
    table.add_row("bytes written to disk by the service", f"{(after.written - before.written) / number:,.0f}")
    for name, times in Counter(called).most_common(_MOST_CALLS):
        table.add_row(f"calls of {name}", f"{times / number:.1f}")
    return table


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--calls", action="store_true", help="count system calls, too (needs strace)")
    given = parser.parse_args()
    if sys.platform != "linux":
        print("The kernel of Linux counts what this shows.", file=sys.stderr)
        return 1
    console = Console()
    console.print(machine())
    for prepare in (submit_live, submit_and_drain):
        console.print(measure(prepare, given.tasks, given.workers, calls=given.calls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
