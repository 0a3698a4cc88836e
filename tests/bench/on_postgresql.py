"""G. How many commands a second become durable on PostgreSQL, beside a file; where its server is installed."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from harness import Goal, Table, scratch, seconds
from postgresql_server import new_place
from services import service
from submit import ours, send_in_bulk, send_one_by_one

from tasktrail.api.service import TaskService
from tasktrail.events import Created, Fact
from tasktrail.events.log.event_log import EventLog
from tasktrail.events.log.opening import open_log, read_log

_NOW = datetime(2026, 1, 31, tzinfo=UTC)
_GROUP = 100


def tables(*, quick: bool) -> list[Table]:
    """Ours beside the same with a file."""
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
    return [bulk, single, append, read]


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
