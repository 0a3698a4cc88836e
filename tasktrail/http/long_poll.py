"""Answers that wait until a task has ended. Each waiting request is an `asyncio.Event` and takes no thread."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from litestar.types import Receive

from ..api.served import Served
from ..events import Task
from ..events.state import FINISHED
from .connections import GuardedConnection


class Waiters:
    """All waiting requests. The methods are called in the event loop."""

    def __init__(self, service: Served) -> None:
        self._service = service
        self._waiting: set[asyncio.Event] = set()
        self.closed = False

    async def ended(
        self,
        task_id: int,
        is_open: Callable[[], Awaitable[bool]],
        look: Callable[[], Awaitable[Task]],
        seconds: float,
        connection: GuardedConnection,
        receive: Receive,
    ) -> Task:
        """Return the task that `look` finds, once it has ended; after `seconds`, or when the service stops, as it is.

        While `is_open` is true, `look` is not called: the views would have to catch up with the log first. The wait
        ends when the client hangs up. Raises `Busy`.
        """
        room, loop = connection.room, asyncio.get_running_loop()
        if not await is_open() and (task := await look()).status in FINISHED:
            return task
        deadline = loop.time() + seconds
        with room.waiting(connection.who), _hanging_up(receive) as leaving, self._expecting(task_id) as woken:
            leaving.add_done_callback(lambda _: woken.set())
            while True:
                woken.clear()
                over = loop.time() >= deadline or self.closed or leaving.done()
                if over or not await is_open():
                    task = await look()
                    if over or task.status in FINISHED:
                        return task
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), deadline - loop.time())

    @contextmanager
    def _expecting(self, task_id: int) -> Iterator[asyncio.Event]:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(woken.set)

        self._waiting.add(woken)
        try:
            with self._service.expecting(task_id, wake):
                yield woken
        finally:
            self._waiting.discard(woken)

    def close(self) -> None:
        """Have all waiting requests answered now."""
        self.closed = True
        for woken in self._waiting:
            woken.set()


@contextmanager
def _hanging_up(receive: Receive) -> Iterator[asyncio.Future[None]]:
    leaving = asyncio.ensure_future(hung_up(receive))
    try:
        yield leaving
    finally:
        leaving.cancel()


async def hung_up(receive: Receive) -> None:
    """Return when the client has gone. The request's body has to be read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
