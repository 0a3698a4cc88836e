"""G. How many commands a second become durable on PostgreSQL, beside a file; where its server is installed."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
from harness import Goal, Table, scratch, seconds
from log_services import Served, wait_for
from postgresql_server import new_database, new_place, server_pid
from services import service
from submit import ours, send_in_bulk, send_one_by_one

from tasktrail import Client, CreateTask
from tasktrail.api.service import TaskService
from tasktrail.events import Accepted, Created, Fact
from tasktrail.events.log.event_log import EventLog
from tasktrail.events.log.opening import open_log, read_log

_NOW = datetime(2026, 1, 31, tzinfo=UTC)
_GROUP = 100


def tables(*, quick: bool) -> list[Table]:
    """Make tables of ours on PostgreSQL and with a file."""
    total, few, records = (1000, 100, 2000) if quick else (20_000, 1000, 50_000)
    bulk = Table("G1", "Durable submit in groups of 100, log on PostgreSQL", "commands/s", yardstick="SQLite")
    bulk.add("SQLite", lambda: ours(lambda tasks: send_in_bulk(tasks, total), total))
    bulk.add(
        "PostgreSQL", lambda: _ours(lambda tasks: send_in_bulk(tasks, total), total), Goal(at_least=0.5, ratio=True)
    )
    single = Table("G2", "Durable submit, one at a time, log on PostgreSQL", "commands/s", yardstick="SQLite")
    single.add("SQLite", lambda: ours(lambda tasks: send_one_by_one(tasks, few), few))
    single.add("PostgreSQL", lambda: _ours(lambda tasks: send_one_by_one(tasks, few), few))
    append = Table("G3", "Append to the log alone, 100 records a commit", "records/s", yardstick="SQLite")
    append.add("SQLite", lambda: _on_file(_append, records))
    append.add("PostgreSQL", lambda: _on_server(_append, records), Goal(at_least=5000))
    read = Table("G4", "Read the log for a fold", "records/s", yardstick="SQLite")
    read.add("SQLite", lambda: _on_file(_read, records))
    read.add("PostgreSQL", lambda: _on_server(_read, records), Goal(at_least=50_000))
    readers = Table("G5", "CPU of the service for a no-op task, log on PostgreSQL", "ms", yardstick="no reader")
    readers.add("no reader", lambda: _cpu(2 * few, 0).service)
    readers.add("3 readers", lambda: _cpu(2 * few, 3).service, Goal(at_most=1.1, ratio=True))
    servers = Table("G6", "CPU of the database server for the same", "ms", yardstick="no reader")
    servers.add("no reader", lambda: _cpu(2 * few, 0).server)
    servers.add("3 readers", lambda: _cpu(2 * few, 3).server)
    return [bulk, single, append, read, readers, servers]


class _Used(NamedTuple):
    """Milliseconds of CPU for a task."""

    service: float
    server: float


def _cpu(number: int, readers: int) -> _Used:
    """Return the CPU that a service and its log's server use for no-op tasks, with that many readers that keep up."""
    with scratch() as folder, new_database() as where, ExitStack() as stack:

        def serve(name: str, *arguments: str) -> Served:
            served = stack.enter_context(closing(Served(folder / name, where, *arguments)))
            served.until("ready")
            return served

        leader = serve("leader")
        beside = [serve(f"reader{one}", "--read-only") for one in range(readers)]
        client = stack.enter_context(Client.connect(leader.data))
        service, server = psutil.Process(leader.process.pid), psutil.Process(server_pid())
        _work(client, number // 10)
        before = _seconds(service), sum(map(_seconds, (server, *server.children())))
        _work(client, number)
        after = _seconds(service), sum(map(_seconds, (server, *server.children())))
        for one in beside:
            wait_for(partial(_has_seen, one.data, number))
        used = [(late - early) * 1000 / number for early, late in zip(before, after, strict=True)]
        return _Used(*used)


def _work(client: Client, number: int) -> None:
    for first in range(0, number, _GROUP):
        accepted = client.send_many([CreateTask(type="noop") for _ in range(first, min(first + _GROUP, number))])
    last = accepted[-1]
    assert isinstance(last, Accepted)
    client.wait(last.task_id, timeout=300)


def _has_seen(data: Path, number: int) -> bool:
    with Client.connect(data) as asked:
        return asked.stats().counts["completed"] >= number


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # some of the server's processes come and go
        return 0.0
    return float(times.user + times.system)


def _ours(work: Callable[[TaskService], None], number: int) -> float:
    with scratch() as folder, new_place(folder), service(folder, workers=1) as tasks:
        return number / seconds(lambda: work(tasks))


def _on_file(measure: Callable[[Path, int], float], number: int) -> float:
    with scratch() as folder:
        return measure(folder / "log.db", number)


def _on_server(measure: Callable[[Path, int], float], number: int) -> float:
    with scratch() as folder, new_place(folder) as place:
        return measure(place, number)


def _append(place: Path, number: int) -> float:
    with closing(open_log(place, now=_NOW)) as log:
        return number / seconds(lambda: _fill(log, number))


def _fill(log: EventLog, number: int) -> None:
    event = Created(type="noop", options={"payload": "x" * 150})
    for first in range(0, number, _GROUP):
        log.append([Fact(first + one, 1, event, _NOW, "bench") for one in range(1, _GROUP + 1)], expected=first)


def _read(place: Path, number: int) -> float:
    with closing(open_log(place, now=_NOW)) as log:
        _fill(log, number)
    with closing(read_log(place)) as reader:
        return number / seconds(lambda: sum(1 for _ in reader.read_to_fold()))
