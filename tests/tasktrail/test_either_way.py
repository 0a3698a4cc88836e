"""A method written once answers blocking callers, and can be awaited by others; type checkers see the same."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Generator
from typing import Any, assert_type

import pytest

from tasktrail import AsyncClient, Client, Task, TaskService
from tasktrail.api.either_way import Awaited, Blocking, answer_without_waiting, either_stream, either_way
from tasktrail.events import Recorded


class Counter:
    """Counts up to a number."""

    def __init__(self) -> None:
        self.closed = 0

    async def _twice(self, number: int) -> int:
        return 2 * number

    @either_way
    async def twice(self, number: int, *, plus: int = 0) -> int:
        """Return twice the number."""
        return await self._twice(number) + plus

    @either_stream
    def upto(self, number: int) -> AsyncGenerator[int, None]:
        """Yield all numbers below it."""
        return self._upto(number)

    async def _upto(self, number: int) -> AsyncGenerator[int, None]:
        try:
            for one in range(number):
                yield one
        finally:
            self.closed += 1


class BlockingCounter(Counter, Blocking):
    pass


class AwaitedCounter(Counter, Awaited):
    pass


def test_a_blocking_class_answers() -> None:
    counter = BlockingCounter()
    assert assert_type(counter.twice(3, plus=1), int) == 7
    assert list(counter.upto(3)) == [0, 1, 2]
    assert counter.closed == 1


def test_an_awaited_class_hands_coroutines_out() -> None:
    async def program() -> None:
        counter = AwaitedCounter()
        assert assert_type(await counter.twice(3, plus=1), int) == 7
        assert [one async for one in counter.upto(3)] == [0, 1, 2]

    asyncio.run(program())


def test_a_stream_that_is_left_is_closed() -> None:
    counter = BlockingCounter()
    numbers = counter.upto(10)
    assert next(numbers) == 0
    numbers.close()
    assert counter.closed == 1
    for _ in counter.upto(10):
        break
    assert counter.closed == 2


def test_an_error_comes_through_both() -> None:
    for bad in (None, "x"):
        with pytest.raises(TypeError):
            BlockingCounter().twice(bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            asyncio.run(AwaitedCounter().twice(bad))  # type: ignore[arg-type]


def test_what_waits_where_everything_blocks_is_a_fault_of_ours() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append("closed")

    with pytest.raises(RuntimeError, match="waits"):
        answer_without_waiting(waits())
    assert ended == ["closed"]


@pytest.mark.parametrize(("owner", "waits"), [(Client, False), (TaskService, False), (AsyncClient, True)])
def test_help_shows_an_ordinary_method(owner: Any, *, waits: bool) -> None:
    method = owner.create_task
    assert inspect.isfunction(method)
    assert inspect.iscoroutinefunction(method) == waits
    assert (method.__name__, method.__qualname__) == ("create_task", "Commands.create_task")
    assert "priority" in inspect.signature(method).parameters
    assert method.__doc__


async def types_of_both(client: Client, other: AsyncClient) -> None:
    """Only the type checker reads it; no code calls it."""
    assert_type(client.get_task(1), Task)
    assert_type(await other.get_task(1), Task)
    assert_type(client.create_task("noop"), int)
    assert_type(await other.create_task("noop"), int)
    other.create_task("noop")  # type: ignore[unused-coroutine]  # nobody awaits it
    assert_type(client.follow(), Generator[Recorded, None, None])
    assert_type(other.follow(), AsyncGenerator[Recorded, None])
    client.get_task("1")  # type: ignore[arg-type]
    client.create_task("noop", priority="high")  # type: ignore[arg-type]
    client.create_task("noop", colour="red")  # type: ignore[arg-type]
