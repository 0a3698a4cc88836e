"""Axis Q: the pure queue with a million waiting tasks, alone and behind limits."""

import gc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from harness import Goal, Table, seconds

from tasktrail.actors.core.limits import LimitKey, LimitKind
from tasktrail.actors.core.queue import ReadyQueue
from tasktrail.events import Created, TaskState
from tasktrail.events.state import create

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TYPES = ("video_convert", "video_preview", "image_thumbnail")
_MICRO = 1e6


def tables(*, quick: bool) -> Iterator[Table]:
    """Make a table of microseconds for each push and pop."""
    number = 2_000 if quick else 1_000_000
    table = Table("Q", f"push and pop, {number:,} waiting tasks", "us each")
    for users in (1, 1000):
        table.add(f"push, {users} users", _push(number, users), Goal(at_most=20))
        table.add(f"pop all, {users} users", _pop(number, users, shut=False), Goal(at_most=20))
        table.add(f"pop past a type at its limit, {users} users", _pop(number, users, shut=True), Goal(at_most=20))
    yield table


def _tasks(number: int, users: int) -> list[TaskState]:
    specs = [Created(type=_TYPES[index % 3], user_id=index % users, priority=index % 11) for index in range(3 * users)]
    return [
        create(index + 1, specs[index * 7919 % len(specs)], _START + timedelta(seconds=index))
        for index in range(number)
    ]


def _filled(number: int, users: int, *, shut: bool) -> tuple[ReadyQueue, float]:
    def is_closed(key: LimitKey) -> bool:
        return shut and key == (LimitKind.TYPE, _TYPES[0])

    queue = ReadyQueue(is_closed)
    tasks = _tasks(number, users)
    gc.collect()

    def push() -> None:
        for task in tasks:
            queue.push(task)

    return queue, seconds(push)


def _push(number: int, users: int) -> Callable[[], float]:
    return lambda: _filled(number, users, shut=False)[1] / number * _MICRO


def _pop(number: int, users: int, *, shut: bool) -> Callable[[], float]:
    def measured() -> float:
        queue, _ = _filled(number, users, shut=shut)
        popped = 0

        def pop() -> None:
            nonlocal popped
            while queue.pop() is not None:
                popped += 1

        took = seconds(pop)
        return took / popped * _MICRO

    return measured
