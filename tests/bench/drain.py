"""B, C. No-op tasks a second through worker processes, history and result recorded; and how soon a task starts."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import Goal, Table, quantile, scratch
from services import service

from tasktrail.api.service import TaskService
from tasktrail.events import Accepted, Completed, CreateTask

_GAP = 0.015


def tables(*, quick: bool) -> list[Table]:
    """Compare drain with huey's; latency stands alone, since nothing here is comparable."""
    number, most = (200, 4) if quick else (3000, 16)
    two = Table("B1", "No-op tasks end to end, 2 workers", "tasks/s", yardstick="huey, SQLite FULL, 2 processes")
    two.add("huey, SQLite FULL, 2 processes", lambda: _huey(number))
    two.add("tasktrail", lambda: drained(number, 2), Goal(at_least=5, ratio=True))
    sixteen = Table("B2", f"No-op tasks end to end, {most} workers", "tasks/s")
    sixteen.add("tasktrail", lambda: drained(number * 2, most), Goal(at_least=20_000))
    tasks = 50 if quick else 300
    latency = Table("C", "Submit to the handler's first line, idle", "ms")
    latency.add("tasktrail, p50", lambda: latency_of(tasks, 0.5), Goal(at_most=0.9))
    latency.add("tasktrail, p99", lambda: latency_of(tasks, 0.99), Goal(at_most=3))
    return [two, sixteen, latency]


def drained(number: int, workers: int, **settings: Any) -> float:
    """Return the rate from the first tenth to the last end, by the recorded times of the ends."""
    with scratch() as folder, service(folder, workers, **settings) as tasks:
        gate = tasks.create_task(type="noop", held=True)
        head = tasks.stats().position
        waiting = [CreateTask(type="noop", depends_on=(gate,)) for _ in range(number)]
        answers = [
            answer for start in range(0, number, 500) for answer in tasks.send_many(waiting[start : start + 500])
        ]
        last = max(answer.task_id for answer in answers if isinstance(answer, Accepted))
        tasks.start_task(gate)
        tasks.wait(last, timeout=300)
        return _rate(tasks, head, number)


def _rate(tasks: TaskService, head: int, number: int) -> float:
    ends: list[float] = []
    for record in tasks.follow(head):
        if isinstance(record.event, Completed):
            ends.append(record.recorded_at.timestamp())
            if len(ends) > number:
                break
    first = number // 10
    return (len(ends) - first) / (ends[-1] - ends[first])


def latency_of(number: int, share: float, **settings: Any) -> float:
    """Return milliseconds; that share of the starts took no longer."""
    with scratch() as folder, service(folder, 2, **settings) as tasks:
        begun: dict[int, float] = {}
        due = time.monotonic()
        for _ in range(number):
            due += _GAP
            time.sleep(max(0.0, due - time.monotonic()))
            at = time.clock_gettime(time.CLOCK_MONOTONIC)
            begun[tasks.send(CreateTask(type="stamp")).task_id] = at
        waits = [tasks.wait(task_id, timeout=30).result["began"] - at for task_id, at in begun.items()]
        return quantile(waits, share) * 1000


_HUEY = """
import sys
from huey import SqliteHuey
huey = SqliteHuey(filename=sys.argv[-1] if sys.argv[-1].endswith(".db") else __import__("os").environ["BENCH_DB"])
@huey.task()
def nothing():
    return 1
"""


def _huey(number: int) -> float:
    """Queue first, then start two consumer processes; return the rate from the first tenth on, by stored results."""
    with scratch() as folder:
        run_huey(folder, f"for _ in range({number}): bench_huey.nothing()")
        with huey_consumer(folder):
            return _watch_huey(folder / "huey.db", number)


def run_huey(folder: Path, program: str, *arguments: str) -> str:
    """Return the output of a client of huey; its task is `bench_huey.nothing`."""
    command = [sys.executable, "-c", f"import bench_huey\n{program}", *arguments]
    return subprocess.run(command, env=_environment(folder), check=True, capture_output=True, text=True).stdout


@contextmanager
def huey_consumer(folder: Path) -> Iterator[None]:
    """Run two worker processes of huey."""
    program = str(Path(sys.executable).parent / "huey_consumer")
    process = subprocess.Popen(
        [program, "bench_huey.huey", "-k", "process", "-w", "2", "-d", "0.001", "-m", "0.01", "-n"],
        env=_environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(folder: Path) -> dict[str, str]:
    (folder / "bench_huey.py").write_text(_HUEY)
    return {**os.environ, "BENCH_DB": str(folder / "huey.db"), "PYTHONPATH": str(folder)}


def _watch_huey(path: Path, number: int) -> float:
    conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    first_at, first, deadline = 0.0, 0, time.monotonic() + 120
    while time.monotonic() < deadline:
        done = int(conn.execute("SELECT count(*) FROM kv").fetchone()[0])
        now = time.perf_counter()
        if not first_at and done >= number // 10:
            first_at, first = now, done
        if done >= number:
            conn.close()
            return (done - first) / (now - first_at)
        time.sleep(0.005)
    raise RuntimeError("huey did not finish")
