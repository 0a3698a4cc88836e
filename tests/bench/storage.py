"""D, E, H. Append, replay, restart with much unfinished, memory of an unfinished task."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from floors import in_batches, one_by_one, raw_log
from harness import SUPPORT, Goal, Table, scratch, seconds

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.state import SchedulerState
from tasktrail.events import Answer, Completed, Created, Fact, Started
from tasktrail.events.log.sqlite import SqliteEventLog

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def tables(*, quick: bool) -> list[Table]:
    """The log beside raw SQLite; the whole service for the rest."""
    number = 500 if quick else 5000
    append = []
    for size in (1, 10, 100):
        count = min(number, 1000) if size == 1 else number
        table = Table("D1", f"Append, {size} a commit", "events/s", yardstick="raw SQLite, WAL FULL")
        table.add("raw SQLite, WAL FULL", partial(_raw_append, count, size))
        table.add("tasktrail's log", partial(_append, count, size))
        append.append(table)
    events = 3_000 if quick else 120_000
    replay = Table("D2", "Replay to all states", "events/s")
    replay.add("tasktrail", lambda: _replay(events), Goal(at_least=250_000))
    open_tasks = 2_000 if quick else 100_000
    restart = Table("E", f"Process start until ready, {open_tasks:,} unfinished tasks", "s")
    restart.add("tasktrail", lambda: _restart(open_tasks)[0], Goal(at_most=4))
    memory = Table("H", "Resident memory of an unfinished task in the service", "bytes")
    memory.add("tasktrail", lambda: _restart(open_tasks)[1], Goal(at_most=1024))
    return [*append, replay, restart, memory]


def _raw_append(number: int, size: int) -> float:
    with scratch() as folder:
        conn = raw_log(folder)
        rate = number / seconds(lambda: one_by_one(conn, number) if size == 1 else in_batches(conn, number, size))
        conn.close()
        return rate


def _append(number: int, size: int) -> float:
    with scratch() as folder:
        log = SqliteEventLog(folder / "log.db", now=_NOW)

        def work() -> None:
            for start in range(0, number, size):
                log.append([_created(start + index + 1) for index in range(size)], expected=start)

        rate = number / seconds(work)
        log.close()
        return rate


def _created(task_id: int) -> Fact:
    event = Created(type="noop", options={"number": task_id}, priority=5)
    return Fact(task_id, 1, event, _NOW, "bench", "", f"{task_id:032x}", life=1)


def fill(path: Path, tasks: int, *, ended: bool) -> int:
    """A log of so many tasks, completed or waiting; its last position."""
    log = SqliteEventLog(path, now=_NOW)
    position = 0
    for start in range(0, tasks, 1000):
        facts = [_created(task_id) for task_id in range(start + 1, min(start + 1000, tasks) + 1)]
        answers = [
            Answer(fact.command_id, b"", fact.task_id, position) for position, fact in enumerate(facts, position + 1)
        ]
        if ended:
            ids = [fact.task_id for fact in facts]
            facts += [Fact(task_id, 2, Started(effective_priority=5.0), _NOW, attempt=1, life=1) for task_id in ids]
            facts += [Fact(task_id, 3, Completed(result={"n": 1}), _NOW, attempt=1, life=1) for task_id in ids]
        log.append(facts, answers, expected=position)
        position += len(facts)
    log.close()
    return position


def _replay(events: int) -> float:
    with scratch() as folder:
        number = fill(folder / "log.db", events // 3, ended=True)
        log = SqliteEventLog(folder / "log.db", now=_NOW)
        state = SchedulerState(Limits(), grace={"noop": 0.5})

        def fold() -> None:
            for record in log.read():
                state.apply(record, record.position)

        rate = number / seconds(fold)
        log.close()
        return rate


_START = """
import sys, time
from pathlib import Path
from tasktrail.config.settings import Config
from tasktrail.api.service import TaskService
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
config = Config(workers=1, max_cpu=1, handlers=("bench_types",), snapshot_every=int(sys.argv[2]))
with TaskService.open(sys.argv[1], config=config) as tasks:
    print(time.clock_gettime(time.CLOCK_MONOTONIC), resident(), flush=True)
"""


def _restart(number: int) -> tuple[float, float]:
    """Seconds from exec to ready, and the growth of resident memory over a service with nothing to do, per task."""
    with scratch() as folder:
        for name, tasks in (("empty", 1), ("full", number)):
            (folder / name).mkdir()
            fill(folder / name / "log.db", tasks, ended=False)
            started(
                folder / name
            )  # the views are brought up once: a service that was killed lags by moments, not by all
        _seconds, empty = started(folder / "empty")
        took, full = started(folder / "full")
        return took, (full - empty) / number


def started(data: Path, *, snapshot_every: int = 0) -> tuple[float, int]:
    """Seconds from exec to ready, and resident bytes then."""
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    done = subprocess.run(
        [sys.executable, "-c", _START, str(data), str(snapshot_every)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SUPPORT), "PATH": ""},
    )
    ready, resident = done.stdout.splitlines()[-1].split()
    return float(ready) - begun, int(resident)
