"""Flip bits in views.db, before a start and under a running service, and compare every answer with the log.

PYTHONPATH=tests/support python tests/attack/views.py --flips 300 --seed 7

A folder with tasks of every state is made once. For each flip a copy of it gets one changed bit somewhere in views.db;
then a service is started on it and asked for everything. Every answer has to agree with the log. The same again with
the bit changed under the running service: there a task's values have to be right or refused, and a list that leaves a
task out is counted apart, because a damaged index is found only at the next start. Only `verify` finds changed words in
the search index: that is counted apart as well, and the rebuild that it recommends has to help.
"""

import argparse
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import TasktrailError
from tasktrail.projections import TaskFilters

SUPPORT = str(Path(__file__).parent.parent / "support")
TASKS = 120
CONFIG = Config(workers=1, handlers=("sample_handlers", "crash_handlers"), log_level="error")
FILTERS = [
    TaskFilters(limit=500),
    *(TaskFilters(status=(status,), limit=500) for status in ("pending", "completed", "failed", "cancelled")),
    TaskFilters(user_id=(3,), sort="-priority", limit=500),
    TaskFilters(sort="updated_at", limit=500),
    TaskFilters(search="quick", limit=500),
]
Answers = dict[str, Any]


def make(data: Path) -> None:
    """Make tasks of many states, with notices and notes."""
    with TaskService.open(data, config=CONFIG) as service:
        for number in range(TASKS):
            kind = ("quick", "timeout", "quick", "quick")[number % 4]
            held = number % 5 == 0
            task_id = service.create_task(type=kind, held=held, priority=number % 11, user_id=number % 7, max_retries=0)
            if number % 15 == 0:
                service.cancel_task(task_id, reason="not wanted")
            elif not held:
                service.wait(task_id, 60)
    with closing(sqlite3.connect(data / "views.db")) as views:
        views.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def answers(service: TaskService) -> Answers:
    """Return everything that the views answer; a refusal stands for itself."""
    names = [f"task {number}" for number in range(1, TASKS + 1)]
    names += [f"list {number}" for number in range(len(FILTERS))]
    said: Answers = {}
    for name in [*names, "stats", "endpoints"]:
        try:
            said[name] = ask(service, name)
        except TasktrailError as error:
            said[name] = error
    return said


def ask(service: TaskService, name: str) -> Any:
    """Return one answer."""
    kind, _, number = name.partition(" ")
    match kind:
        case "task":
            return _plain(service.get_task(int(number)))
        case "list":
            return [_plain(task) for task in service.list_tasks(FILTERS[int(number)])[0]]
        case "stats":
            return service.stats().counts, service.stats().by_type
        case _:
            return service.endpoints()


def _plain(task: Any) -> tuple[Any, ...]:
    """Return a task without the values that grow with the time of asking."""
    left_out = {"effective_priority", "priority_terms"}
    return tuple(getattr(task, name) for name in task.__struct_fields__ if name not in left_out)


def compare(said: Answers, due: Answers, *, running: bool) -> Counter[str]:
    """Return how many answers are wrong, refused, or incomplete."""
    found: Counter[str] = Counter()
    for name, answer in said.items():
        if isinstance(answer, TasktrailError):
            found["refused"] += 1
        elif answer != due[name]:
            short = running and name.startswith("list") and all(task in due[name] for task in answer)
            found["left out" if short else "wrong"] += 1
            if not short:
                print(f"    wrong: {name}")
    return found


def flip(path: Path, rng: random.Random) -> str:
    """Change one bit; return where."""
    at, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
    handle = os.open(path, os.O_RDWR)
    try:
        (byte,) = os.pread(handle, 1, at)
        os.pwrite(handle, bytes([byte ^ 1 << bit]), at)
    finally:
        os.close(handle)
    return f"byte {at}, bit {bit}"


def before_start(whole: Path, work: Path, rng: random.Random, due: Answers) -> Counter[str]:
    """Flip before a start, which then meets it."""
    data = work / "data"
    shutil.copytree(whole, data)
    where = flip(data / "views.db", rng)
    print(f"  before a start: {where}", flush=True)
    with TaskService.open(data, config=CONFIG) as service:
        found = compare(answers(service), due, running=False)
        if not service.verify().ok:  # words of the search, which a start does not read; the rebuild has to help
            service.rebuild()
            found["found by verify" if service.verify().ok else "not sound afterwards"] += 1
    shutil.rmtree(data)
    return found


def under_way(whole: Path, work: Path, rng: random.Random, due: Answers) -> Counter[str]:
    """Flip under a running service that has finished its checks."""
    data = work / "data"
    shutil.copytree(whole, data)
    with TaskService.open(data, config=CONFIG) as service:
        service.source.settle()
        print(f"  under way: {flip_in_another_process(data / 'views.db', rng)}", flush=True)
        found: list[Counter[str]] = []
        # A separate thread has its own connection, with nothing cached.
        asking = threading.Thread(target=lambda: found.append(compare(answers(service), due, running=True)))
        asking.start()
        asking.join()
    with TaskService.open(data, config=CONFIG) as service:
        found[0] += compare(answers(service), due, running=False)
    shutil.rmtree(data)
    return found[0]


def flip_in_another_process(path: Path, rng: random.Random) -> str:
    """Flip in another process, because opening and closing the file here would drop SQLite's locks."""
    seed = rng.randrange(2**32)
    child = os.fork()
    if child == 0:
        flip(path, random.Random(seed))
        os._exit(0)
    os.waitpid(child, 0)
    return f"seed {seed}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=300, help="of each kind")
    parser.add_argument("--short", action="store_true", help="eight of each kind")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    sys.path.append(SUPPORT)
    os.environ["PYTHONPATH"] = SUPPORT
    rng = random.Random(options.seed)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="tasktrail-views-") as folder:
        work = Path(folder)
        make(work / "whole")
        with TaskService.open(work / "whole", config=CONFIG) as service:
            due = answers(service)
        with closing(sqlite3.connect(work / "whole" / "views.db")) as views:
            views.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for number in range(8 if options.short else options.flips):
            print(f"flip {number + 1}")
            total += before_start(work / "whole", work, rng, due)
            total += under_way(work / "whole", work, rng, due)
    flips = 2 * (8 if options.short else options.flips)
    print(f"{flips} flips, seed {options.seed}: {dict(total) or 'every answer right'}")
    return 1 if total["wrong"] or total["not sound afterwards"] else 0


if __name__ == "__main__":
    sys.exit(main())
