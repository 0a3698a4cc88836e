"""A. How many commands a second become durable: one caller, sixteen callers, a hundred a call."""

import threading
from collections.abc import Callable

from floors import in_batches, many_callers, one_by_one, raw_log
from harness import Goal, Table, scratch, seconds
from huey import SqliteHuey
from services import service

from tasktrail.api.service import TaskService
from tasktrail.events import CreateTask

_HELD = CreateTask(type="noop", held=True)  # held, because the submit is measured and not the run


def tables(*, quick: bool) -> list[Table]:
    """Make tables of the three ways to submit, each beside its floor and a peer."""
    number = 100 if quick else 1000
    single = Table("A1", "Durable submit, one caller, one at a time", "commands/s", yardstick="raw SQLite, WAL FULL")
    single.add("raw SQLite, WAL FULL", lambda: _raw(lambda conn: one_by_one(conn, number), number))
    single.add(
        "tasktrail", lambda: ours(lambda tasks: send_one_by_one(tasks, number), number), Goal(at_least=0.7, ratio=True)
    )
    single.add("huey, SQLite FULL", lambda: _huey(number))
    each = 20 if quick else 300
    many = Table("A2", "Durable submit, 16 callers", "commands/s", yardstick="raw SQLite, writer thread")
    many.add("raw SQLite, writer thread", lambda: _raw(lambda conn: many_callers(conn, 16, each), 16 * each))
    many.add(
        "tasktrail", lambda: ours(lambda tasks: _callers(tasks, 16, each), 16 * each), Goal(at_least=0.6, ratio=True)
    )
    bulk = Table("A3", "Durable submit, 100 a call", "commands/s", yardstick="raw SQLite, executemany")
    total = 1000 if quick else 20_000
    bulk.add("raw SQLite, executemany", lambda: _raw(lambda conn: in_batches(conn, total, 100), total))
    bulk.add(
        "tasktrail", lambda: ours(lambda tasks: send_in_bulk(tasks, total), total), Goal(at_least=0.25, ratio=True)
    )
    return [single, many, bulk]


def _raw(work: Callable[..., None], number: int) -> float:
    with scratch() as folder:
        conn = raw_log(folder)
        rate = number / seconds(lambda: work(conn))
        conn.close()
        return rate


def ours(work: Callable[[TaskService], None], number: int) -> float:
    with scratch() as folder, service(folder, workers=1) as tasks:
        return number / seconds(lambda: work(tasks))


def send_one_by_one(tasks: TaskService, number: int) -> None:
    for _ in range(number):
        tasks.send(_HELD)


def _callers(tasks: TaskService, callers: int, each: int) -> None:
    threads = [threading.Thread(target=send_one_by_one, args=(tasks, each)) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def send_in_bulk(tasks: TaskService, total: int) -> None:
    for _ in range(0, total, 100):
        tasks.send_many([_HELD] * 100)


def _huey(number: int) -> float:
    with scratch() as folder:
        huey = SqliteHuey(filename=str(folder / "huey.db"))

        @huey.task()  # type: ignore[untyped-decorator]  # huey has no types
        def nothing() -> None: ...

        nothing()

        def enqueue() -> None:
            for _ in range(number):
                nothing()

        return number / seconds(enqueue)
