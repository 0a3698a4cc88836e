"""N. Short tasks while they are sent: how many a second run to their end, through each entrance, and the cost of one.

Unlike in B, the workers are warm and everything works at once: the sender, the service, two or sixteen workers.
"""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import psutil
from drain import huey_consumer, run_huey
from harness import SUPPORT, Goal, Table, scratch, seconds
from served import served
from services import service

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.events import CreateTask, Recorded

_NOOP = CreateTask(type="noop")
_PEER = "huey, SQLite FULL, 2 processes"
_OTHER = "dbos, SQLite, no bound of tasks at once"
_WITHIN = 300
_HUEY_CLIENT = """
import sys, threading, time
callers, each = int(sys.argv[1]), int(sys.argv[2])
def call():
    for _ in range(each): bench_huey.nothing()
threads = [threading.Thread(target=call) for _ in range(callers)]
begun = time.time()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(begun, flush=True)
"""
_DBOS = """
import sys, threading, time
from dbos import DBOS
callers, each = int(sys.argv[1]), int(sys.argv[2])
where = {"name": "bench", "system_database_url": "sqlite:///dbos.db"}
DBOS(config={**where, "run_admin_server": False, "log_level": "ERROR"})
@DBOS.workflow()
def nothing() -> int:
    return 1
DBOS.launch()
queue = DBOS.register_queue("bench", polling_interval_sec=0.01)
queue.enqueue(nothing).get_result()
handles = []
def call():
    for _ in range(each): handles.append(queue.enqueue(nothing))
threads = [threading.Thread(target=call) for _ in range(callers)]
begun = time.perf_counter()
for thread in threads: thread.start()
for thread in threads: thread.join()
for handle in handles: handle.get_result()
print(callers * each / (time.perf_counter() - begun), flush=True)
DBOS.destroy()
"""
"""Its queue has no bound of concurrent tasks, which is its best here; a table of its own is its only worker."""


def tables(*, quick: bool) -> list[Table]:
    """Make tables of the rate from the first command to the last end, and of a task's cost in CPU and disk."""
    number, most = (100, 4) if quick else (2000, 16)
    one = Table("N1", "Live: one caller, one at a time, no-op tasks to their end", "tasks/s", yardstick=_PEER)
    one.add(_PEER, lambda: _huey(1, number))
    one.add("tasktrail, 2 workers", lambda: _embedded(1, number, workers=2), Goal(at_least=1.5, ratio=True))
    one.add(f"tasktrail, {most} workers", lambda: _embedded(1, number, workers=most))
    one.add("tasktrail, 2 workers, Client", lambda: _client(number)["rate"])
    one.add(_OTHER, lambda: _dbos(1, number // 10))
    many = Table("N2", "Live: 16 callers, no-op tasks to their end", "tasks/s", yardstick=_PEER)
    many.add(_PEER, lambda: _huey(16, number // 16))
    many.add("tasktrail, 2 workers", lambda: _embedded(16, number // 16, workers=2), Goal(at_least=4, ratio=True))
    many.add(f"tasktrail, {most} workers", lambda: _embedded(16, number // 16, workers=most))
    many.add(_OTHER, lambda: _dbos(16, max(1, number // 160)))
    http = Table("N3", "Live: through HTTP, 16 connections, answered durable", "commands/s")
    http.add("one command a request", lambda: _through_http(number, 1), Goal(at_least=2500))
    http.add("arrays of 100", lambda: _through_http(number * 10, 100), Goal(at_least=15_000))
    lines = Table("N4", "Live: through `submit --from`, 2 workers, to their end", "tasks/s")
    lines.add("tasktrail", lambda: _from_lines(number * 2))
    cost = Table("N5", "CPU of the service for a no-op task, live, one Client", "ms")
    cost.add("tasktrail, 2 workers", lambda: _client(number)["cpu"], Goal(at_most=0.35))
    left = Table("N6", "What a finished no-op task leaves on the disk", "bytes")
    kept: dict[str, float] = {}

    def leaves(what: str) -> float:
        if what not in kept:
            kept.update(_left(number * 5))
        return kept.pop(what)

    left.add("log and views", lambda: leaves("all"), Goal(at_most=900))
    left.add("log", lambda: leaves("log"))
    left.add("views", lambda: leaves("views"))
    trips = Table("N7", "Live: a no-op task sent and waited for, then the next, 2 workers", "round trips/s")
    trips.add("tasktrail", lambda: _round_trips(number // 4))
    trips.add("tasktrail, Client", lambda: _round_trips_of_a_client(number // 4))
    return [one, many, http, lines, cost, left, trips]


def _embedded(callers: int, each: int, *, workers: int) -> float:
    with scratch() as folder, service(folder, workers) as tasks:
        head = tasks.stats().position
        begun = time.time()
        _call(callers, lambda: [tasks.send(_NOOP) for _ in range(each)])
        return callers * each / (_last_end(tasks.follow(head, events=("completed",)), callers * each) - begun)


def _round_trips(number: int) -> float:
    with scratch() as folder, service(folder, 2) as tasks:
        return number / seconds(lambda: _one_after_the_other(tasks, number))


def _round_trips_of_a_client(number: int) -> float:
    with scratch() as folder, _served(folder) as (_process, client, _address):
        return number / seconds(lambda: _one_after_the_other(client, number))


def _one_after_the_other(tasks: TaskService | Client, number: int) -> None:
    for _ in range(number):
        tasks.wait(tasks.send(_NOOP).task_id, timeout=_WITHIN)


def _call(callers: int, work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _last_end(completed: Iterable[Recorded], number: int) -> float:
    """Wait until all have completed; return when the last of them did, in seconds of the wall clock."""
    *_, last = islice(completed, number)
    return last.recorded_at.timestamp()


@contextmanager
def _served(folder: Path) -> Iterator[tuple[psutil.Process, Client, str]]:
    """Start a service with two warm workers; return its process, a client, and the address of its port."""
    config = folder / "serve.toml"
    config.write_text('workers = 2\nhandlers = ["bench_types"]\nrate_limit = 0\nlog_level = "error"\n')
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    errors = folder / "errors"
    with (
        served(folder / "data", errors, "--config", str(config), environment=environment) as (process, address),
        Client.connect(folder / "data") as client,
    ):
        for task in [client.create_task(type="noop") for _ in range(4)]:
            client.wait(task, timeout=60)
        yield psutil.Process(process.pid), client, address


def _client(number: int) -> dict[str, float]:
    """Return the rate with the service in a separate process, and that process's milliseconds of CPU for each task."""
    with scratch() as folder, _served(folder) as (process, client, _address):
        head = client.stats().position
        begun, used = time.time(), process.cpu_times()
        for _ in range(number):
            client.send(_NOOP)
        ended = _last_end(client.follow(head, events=("completed",)), number)
        now = process.cpu_times()
        cpu = now.user + now.system - used.user - used.system
        return {"rate": number / (ended - begun), "cpu": 1000 * cpu / number}


def _from_lines(number: int) -> float:
    """Return the rate from the start of the command to the last end."""
    with scratch() as folder, _served(folder) as (_process, client, _address):
        lines = folder / "commands.jsonl"
        lines.write_text('{"command": "create_task", "type": "noop"}\n' * number)
        head = client.stats().position
        command = [sys.executable, "-m", "tasktrail", "--data", str(folder / "data"), "submit", "--from", str(lines)]
        begun = time.time()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return number / (_last_end(client.follow(head, events=("completed",)), number) - begun)


def _through_http(number: int, size: int) -> float:
    """Return commands answered in a second, `size` in a request, over lasting connections, while two workers work.

    A separate process sends requests prepared beforehand and reads the answers.
    """
    with scratch() as folder, _served(folder) as (_process, _client, address):
        secret = (folder / "data" / "http-token").read_text().strip()
        command = [sys.executable, str(SUPPORT / "http_load.py"), address, secret, str(number), str(size)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(answer.stdout)


def _left(number: int) -> dict[str, float]:
    """Return bytes for each task: the growth of the files of a service that has ended."""
    with scratch() as folder:
        with service(folder, 2):
            pass
        before = _sizes(folder)
        with service(folder, 2) as tasks:
            head = tasks.stats().position
            for start in range(0, number, 100):
                tasks.send_many([_NOOP] * min(100, number - start))
            _last_end(tasks.follow(head, events=("completed",)), number)
        after = _sizes(folder)
    each = {name: (after[name] - before[name]) / number for name in after}
    return {**each, "all": sum(each.values())}


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of `log` and `views`, each with its write-ahead log."""
    return {
        name: sum(path.stat().st_size for path in folder.glob(f"{name}.db*") if not path.name.endswith("-shm"))
        for name in ("log", "views")
    }


def _huey(callers: int, each: int) -> float:
    """Warm two consumer processes; a separate client sends, and the results are counted as they are stored."""
    number = callers * each
    with scratch() as folder:
        run_huey(folder, "for result in [bench_huey.nothing() for _ in range(4)]: pass")
        with huey_consumer(folder), closing(sqlite3.connect(folder / "huey.db", timeout=30)) as conn:
            _until_stored(conn, 4)
            begun: list[float] = []
            send = threading.Thread(
                target=lambda: begun.append(float(run_huey(folder, _HUEY_CLIENT, str(callers), str(each))))
            )
            send.start()
            ended = _until_stored(conn, 4 + number)
            send.join()
            return number / (ended - begun[0])


def _until_stored(conn: sqlite3.Connection, number: int) -> float:
    """Return when that many results were stored, in seconds of the wall clock."""
    deadline = time.monotonic() + _WITHIN
    while conn.execute("SELECT count(*) FROM kv").fetchone()[0] < number:
        if time.monotonic() > deadline:
            raise RuntimeError("huey did not finish")
        time.sleep(0.005)
    return time.time()


def _dbos(callers: int, each: int) -> float:
    with scratch() as folder:
        command = [sys.executable, "-c", _DBOS, str(callers), str(each)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
        return float(answer.stdout)
