"""I, J. A page of 50 with its total over many tasks, and the cost of the whole service when it is idle."""

import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import psutil
from harness import SUPPORT, Goal, Table, quantile, scratch

from tasktrail.events import Completed, Created, Recorded
from tasktrail.projections import TaskFilters, TaskQueries, TaskViews

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_FILTERS = (
    TaskFilters(status="completed", type="type-3"),
    TaskFilters(status=("pending", "failed"), type="type-5"),
    TaskFilters(user_id=7),
    TaskFilters(sort="-updated_at"),
    TaskFilters(status="pending", sort="-effective_priority"),
    TaskFilters(search="holiday"),
)


def tables(*, quick: bool) -> list[Table]:
    """Make tables: the page's figures come from one build of the views; the idle cost from a real service process."""
    rows = 5_000 if quick else 1_000_000
    cache: dict[float, float] = {}

    def page(share: float) -> float:
        if share not in cache:
            cache.update(_pages(rows))
        return cache.pop(share)

    pages = Table("I", f"Page of 50 and total, {rows:,} tasks, {len(_FILTERS)} filters", "ms")
    pages.add("tasktrail, p50", lambda: page(0.5))
    pages.add("tasktrail, p99", lambda: page(0.99), Goal(at_most=20))
    idle = Table("J", "CPU of the idle service, reapers and workers included", "% of one core")
    idle.add("tasktrail, 2 workers", lambda: _idle(2.0 if quick else 30.0), Goal(at_most=0.1))
    return [pages, idle]


def _pages(rows: int) -> dict[float, float]:
    with scratch() as folder:
        views = TaskViews(folder / "views.db", bulk=True)
        position = count(1)
        for start in range(0, rows, 10_000):
            batch = []
            for task_id in range(start + 1, min(start + 10_000, rows) + 1):
                name = f"/media/{'holiday' if task_id % 997 == 0 else 'clip'}-{task_id}.mp4"
                event = Created(
                    type=f"type-{task_id % 20}", input_file=name, user_id=task_id % 100, priority=task_id % 11
                )
                batch.append(Recorded(task_id, 1, event, _NOW, life=1, position=next(position)))
                if task_id % 20:
                    batch.append(Recorded(task_id, 2, Completed(), _NOW, life=1, position=next(position)))
            views.apply(batch)
        views.finish()
        views.close()
        with sqlite3.connect(folder / "views.db") as conn:
            conn.execute("PRAGMA journal_mode = WAL")
        conn.close()
        queries = TaskQueries.open(folder / "views.db")
        took = []
        for _ in range(30):
            for filters in _FILTERS:
                begun = time.perf_counter()
                queries.list(filters, _NOW)
                took.append((time.perf_counter() - begun) * 1000)
        queries.close()
        return {0.5: quantile(took, 0.5), 0.99: quantile(took, 0.99)}


def _idle(span: float) -> float:
    with scratch() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasktrail", "--data", str(folder / "data"), "serve", "--port", "0"],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SUPPORT), "TASKTRAIL_WORKERS": "2"},
        )
        assert process.stderr is not None
        while not process.stderr.readline().startswith(b"ready"):
            continue
        time.sleep(2)  # the workers are still starting
        before, begun = _cpu(process.pid), time.monotonic()
        time.sleep(span)
        after, elapsed = _cpu(process.pid), time.monotonic() - begun
        used = sum(seconds - before.get(thread, 0.0) for thread, seconds in after.items())
        process.terminate()
        process.wait()
        process.stderr.close()
        return 100 * used / elapsed


def _cpu(pid: int) -> dict[str, float]:
    """Return the seconds of each thread of a process and its children. Of whole processes only hundredths are known."""
    top, found = psutil.Process(pid), {}
    for one in (top, *top.children(recursive=True)):
        for file in Path(f"/proc/{one.pid}/task").glob("*/schedstat"):
            found[str(file)] = int(file.read_text().split()[0]) / 1e9
    return found
